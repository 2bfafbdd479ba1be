"""Goal: nobody believes that there are VPC endpoints here. Method: whole operations over a store in memory."""

from tests.api.cloud import Tenant

S3 = "com.amazonaws.us-east-1.s3"


def test_there_are_none_and_none_is_made(tenant: Tenant) -> None:
    (vpc,) = tenant("DescribeVpcs")["Vpcs"]
    (table,) = tenant("DescribeRouteTables")["RouteTables"]
    refusal = tenant.refusal(
        "CreateVpcEndpoint",
        VpcId=vpc["VpcId"],
        ServiceName=S3,
        RouteTableIds=[table["RouteTableId"]],
        VpcEndpointType="Gateway",
    )
    assert refusal == f"InvalidServiceName: The Vpc Endpoint Service '{S3}' does not exist: no service has endpoints here"
    absent = tenant.refused("CreateVpcEndpoint", VpcId="vpc-00000000000000000", ServiceName=S3)
    assert absent == "InvalidVpcID.NotFound"
    assert tenant("DescribeVpcEndpoints") == {"VpcEndpoints": []}
    assert tenant("DescribeVpcEndpoints", Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]) == {"VpcEndpoints": []}
    assert tenant("DescribeVpcEndpointServices") == {"ServiceNames": [], "ServiceDetails": []}
    assert tenant.refused("DescribeVpcEndpointServices", ServiceNames=[S3]) == "InvalidServiceName"
    for id, code in (("vpce-00000000000000000", "NotFound"), ("vpce", "Malformed")):
        assert tenant.refused("DescribeVpcEndpoints", VpcEndpointIds=[id]) == f"InvalidVpcEndpointId.{code}"
