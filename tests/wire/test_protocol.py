"""Both directions of EC2's and STS's protocols agree with botocore, which is the oracle: what its serializer writes for random
valid input of every operation, our parser reads; what our renderer writes for random output, its parser reads."""

import random
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from botocore.model import Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from alto.api.wire import xml
from alto.api.wire.models import Models, build_table
from alto.api.wire.query import Parser, decode_form
from alto.api.wire.xml import Cached, Constant, Renderer, ec2_error, escape, plain, query_error, timestamp
from alto.kit.world import RealFiles
from alto.model.errors import Refused
from tests.wire.generate import answered, received, service_model, value

SAMPLES = {"ec2": 3, "sts": 20}


def form(serialized: dict[str, object]) -> str:
    body = serialized["body"]
    assert isinstance(body, dict)
    return urlencode({name: item for name, item in body.items() if name not in ("Action", "Version")})


def whole(shape: Shape, got: Any) -> bool:
    """Whether every required member is there: an empty structure cannot be told from an absent one on the wire."""
    if shape.type_name == "structure":
        return all(name in got for name in shape.required_members) and all(
            whole(shape.members[name], item) for name, item in got.items()
        )
    if shape.type_name == "list":
        return all(whole(shape.member, item) for item in got)
    return True


@pytest.mark.parametrize("service", ["ec2", "sts"])
def test_input_of_every_operation(models: Models, service: str) -> None:
    oracle = service_model(service)
    serializer = create_serializer(oracle.metadata["protocol"], include_validation=False)
    parser = Parser(models.service(service))
    for name in oracle.operation_names:
        operation = oracle.operation_model(name)
        if operation.input_shape is None:
            continue
        for seed in range(SAMPLES[service]):
            sent = value(operation.input_shape, random.Random(f"{name} {seed}"))
            pairs = decode_form(form(serializer.serialize_to_request(sent, operation)))
            random.Random(seed).shuffle(pairs)
            expected = received(sent)
            if whole(operation.input_shape, expected):
                assert parser.parse(name, pairs) == expected, f"{name} {seed}"
            else:
                with pytest.raises(Refused, match="must contain the parameter"):
                    parser.parse(name, pairs)


@pytest.mark.parametrize("service", ["ec2", "sts"])
def test_output_of_every_operation(models: Models, service: str) -> None:
    oracle = service_model(service)
    reader = create_parser(oracle.metadata["protocol"])
    renderer = Renderer(models.service(service))
    for name in oracle.operation_names:
        operation = oracle.operation_model(name)
        if operation.output_shape is None:
            continue
        for seed in range(SAMPLES[service]):
            meant = value(operation.output_shape, random.Random(f"{name} {seed}"))
            body = renderer.answer(name, answered(meant), "00000000-0000-4000-8000-000000000000")
            read = reader.parse({"status_code": 200, "headers": {}, "body": body}, operation.output_shape)
            assert read.pop("ResponseMetadata")["RequestId"] == "00000000-0000-4000-8000-000000000000"
            assert read == meant, f"{name} {seed}"


@pytest.mark.parametrize("version", ["2014-09-01", "2016-09-15"])
def test_a_client_of_an_older_version_reads_all_that_it_knows(models: Models, version: str) -> None:
    newest, oracle = service_model("ec2"), service_model("ec2", version)
    reader = create_parser("ec2")
    renderer = Renderer(models.service("ec2", version), older=True)
    for name in oracle.operation_names:
        known, meant = oracle.operation_model(name).output_shape, newest.operation_model(name).output_shape
        if known is None or meant is None:
            continue
        made = value(meant, random.Random(name))
        read = reader.parse({"status_code": 200, "headers": {}, "body": renderer.answer(name, answered(made), "r-1")}, known)
        del read["ResponseMetadata"]
        assert read == of_shape(known, made), name


def of_shape(shape: Shape, made: Any) -> Any:
    """What it has of a newer shape's value."""
    if shape.type_name == "structure":
        return {name: of_shape(shape.members[name], item) for name, item in made.items() if name in shape.members}
    return [of_shape(shape.member, item) for item in made] if shape.type_name == "list" else made


def test_operations_without_output_return_true(models: Models) -> None:
    """libcloud reads it; the model does not have it."""
    renderer = Renderer(models.service("ec2"))
    oracle = service_model("ec2")
    silent = [name for name in oracle.operation_names if oracle.operation_model(name).output_shape is None]
    assert len(silent) > 40
    for name in silent:
        root = ElementTree.fromstring(renderer.answer(name, {}, "r-1"))
        space = "{http://ec2.amazonaws.com/doc/2016-11-15/}"
        assert root.tag == f"{space}{name}Response"
        assert [(child.tag, child.text) for child in root] == [(f"{space}requestId", "r-1"), (f"{space}return", "true")]
    body = renderer.answer("DescribeRegions", {}, "r-1")
    assert b"return" not in body


def test_operations_that_got_an_output_later_return_true_before_it(models: Models) -> None:
    """Salt takes the third element of AssociateAddress's answer for the association; seen with the client itself."""
    renderer = Renderer(models.service("ec2"))
    for name, members in (
        ("AssociateAddress", {"AssociationId": "eipassoc-1"}),
        ("CreateSecurityGroup", {"GroupId": "sg-1"}),
        ("AssignPrivateIpAddresses", {"NetworkInterfaceId": "eni-1"}),
        ("CreatePlacementGroup", {"PlacementGroup": {"GroupName": "g"}}),
    ):
        names = [child.tag.partition("}")[2] for child in ElementTree.fromstring(renderer.answer(name, members, "r-1"))]
        assert names[:2] == ["requestId", "return"]
        assert len(names) == 3


def test_names_that_the_model_lacks_are_a_bug_and_not_silence(models: Models) -> None:
    renderer = Renderer(models.service("ec2"))
    with pytest.raises(KeyError):
        renderer.answer("DescribeRegions", {"Regions": [{"RegionNam": "x"}]}, "r-1")
    assert b"<item><regionName>" in renderer.answer("DescribeRegions", {"Regions": [{"RegionName": "x", "Else": None}]}, "r-1")
    with pytest.raises(KeyError):
        renderer.answer("DescribeRegions", {"Regions": [{"RegionName": "x", "Else": "y"}]}, "r-1")


def test_what_an_older_version_lacks_its_answers_lack(models: Models) -> None:
    assert models.versions("ec2")[-1] == "2016-11-15"
    assert len(models.versions("ec2")) > 1
    older = Renderer(models.service("ec2", models.versions("ec2")[0]), older=True)
    vpc = {"VpcId": "vpc-1", "CidrBlockAssociationSet": [{"AssociationId": "a-1"}, {"AssociationId": "a-2"}], "IsDefault": True}
    shown = b"<vpcSet><item><vpcId>vpc-1</vpcId><isDefault>true</isDefault></item></vpcSet>"
    for _ in range(2):
        assert shown in older.answer("DescribeVpcs", {"Vpcs": [vpc]}, "r-1")
    assert shown in older.answer("DescribeVpcs", {"Vpcs": [{**vpc, "CidrBlock": None}], "NextToken": "t"}, "r-1")
    assert older.knows("DescribeVpcs")
    assert not older.knows("ModifyVolume")


def test_what_is_absent_once_is_there_the_next_time(models: Models) -> None:
    """The same members in the same order, so the same function writes them."""
    renderer = Renderer(models.service("ec2"))

    def shown(**members: object) -> bytes:
        body = renderer.answer("DescribeRegions", {"Regions": [members]}, "r-1")
        return body.partition(b"<regionInfo>")[2].partition(b"</regionInfo>")[0]

    assert shown(RegionName="a", Endpoint=None) == b"<item><regionName>a</regionName></item>"
    assert shown(RegionName=None, Endpoint="b") == b"<item><regionEndpoint>b</regionEndpoint></item>"
    both = shown(RegionName="<&>", Endpoint="\u00e4\U0001f642")
    assert (
        both.decode() == "<item><regionName>&lt;&amp;&gt;</regionName><regionEndpoint>\u00e4\U0001f642</regionEndpoint></item>"
    )
    assert shown(Endpoint="b", RegionName="a").startswith(b"<item><regionEndpoint>")
    assert shown() == b"<item></item>"


def test_a_constant_is_rendered_once_for_each_shape(models: Models) -> None:
    renderer = Renderer(models.service("ec2"))
    state = Constant(Code=16, Name="running")

    def answer(shown: object) -> bytes:
        return renderer.answer("DescribeInstances", {"Reservations": [{"Instances": [{"State": shown}]}]}, "r-1")

    first = answer(state)
    assert b"<instanceState><code>16</code><name>running</name></instanceState>" in first
    assert answer(dict(state)) == answer(Constant(state)) == first
    state["Name"] = "changed by nobody"
    assert answer(state) == first
    # What changes states names the same structure otherwise.
    terminated = renderer.answer("TerminateInstances", {"TerminatingInstances": [{"CurrentState": state}]}, "r-1")
    assert b"<currentState>" in terminated
    assert b"<code>16</code>" in terminated


def test_a_constant_in_a_list_is_rendered_once_too(models: Models) -> None:
    renderer = Renderer(models.service("ec2"))
    region = Constant(RegionName="a")
    first = renderer.answer("DescribeRegions", {"Regions": [region, region]}, "r-1")
    region["RegionName"] = "changed by nobody"
    assert renderer.answer("DescribeRegions", {"Regions": [region, region]}, "r-1") == first


def test_cached_elements_are_rendered_once_per_key(models: Models) -> None:
    renderer = Renderer(models.service("ec2"))
    made = []

    def answer(version: int) -> bytes:
        def make() -> dict[str, object]:
            made.append(version)
            return {"InstanceId": "i-1", "AmiLaunchIndex": version}

        fresh = {"InstanceId": "i-2"}
        result = {"Reservations": [{"Instances": [Cached(("i-1", version), make), fresh]}]}
        assert plain(result)["Reservations"][0]["Instances"][0]["AmiLaunchIndex"] == version
        made.pop()
        return renderer.answer("DescribeInstances", result, "r-1")

    first = answer(7)
    assert answer(7) == first
    assert made == [7]
    assert b"<amiLaunchIndex>8</amiLaunchIndex></item><item><instanceId>i-2<" in answer(8)


def test_older_versions_keep_little(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked for seldom, and each has a memory of its own."""
    monkeypatch.setattr(xml, "OLDER_BYTES_MAX", 30)
    made = []

    def make() -> dict[str, object]:
        made.append(1)
        return {"InstanceId": "i-1"}

    renderer = Renderer(models.service("ec2", "2014-10-01"), older=True)
    for number in (1, 2, 3, 1):
        renderer.answer("DescribeInstances", {"Reservations": [{"Instances": [Cached((number,), make)]}]}, "r-1")
    assert len(made) == 4


# What the models do not say.


def parse(models: Models, operation: str, *pairs: tuple[str, str]) -> dict[str, object]:
    return Parser(models.service("ec2")).parse(operation, pairs)


def test_lists_begin_anywhere_and_have_holes(models: Models) -> None:
    """libcloud counts from 0; indices are numbers, not words."""
    pairs = [(f"ResourceId.{n}", f"i-{n}") for n in (10, 0, 2)] + [("Tag.0.Key", "k"), ("Tag.0.Value", "v")]
    assert parse(models, "CreateTags", *pairs) == {
        "Resources": ["i-0", "i-2", "i-10"],
        "Tags": [{"Key": "k", "Value": "v"}],
    }


def test_a_value_alone_is_a_list_of_one(models: Models) -> None:
    """So libcloud asks for one key pair, and Salt for the tags of one resource."""
    assert parse(models, "DescribeKeyPairs", ("KeyName", "k")) == {"KeyNames": ["k"]}
    assert parse(models, "DescribeKeyPairs", ("KeyName.2", "b"), ("KeyName", "a")) == {"KeyNames": ["a", "b"]}
    filter = ("Filter.1.Name", "resource-id"), ("Filter.1.Value", "i-1")
    assert parse(models, "DescribeTags", *filter) == {"Filters": [{"Name": "resource-id", "Values": ["i-1"]}]}
    # Elements that have a name of their own are numbered.
    role = ("RoleArn", "a"), ("RoleSessionName", "b"), ("TransitiveTagKeys.member", "x"), ("TransitiveTagKeys.member.1", "y")
    with pytest.raises(Refused, match=r"TransitiveTagKeys\.member is not recognized"):
        Parser(models.service("sts")).parse("AssumeRole", role)


def test_a_name_of_boto_2(models: Models) -> None:
    """boto 2.49 (and euca2ools before 3) sends its one instance as a list; seen with the client itself."""
    assert parse(models, "GetConsoleOutput", ("InstanceId.1", "i-1")) == {"InstanceId": "i-1"}


def test_empty_values_are_absent_except_where_empty_says_something(models: Models) -> None:
    got = parse(
        models,
        "RunInstances",
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("IamInstanceProfile.Name", ""),
        ("Placement.AvailabilityZone", ""),
        ("EbsOptimized", ""),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "k"),
        ("TagSpecification.1.Tag.1.Value", ""),
        ("SecurityGroupId", ""),
    )
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "k", "Value": ""}]}]
    assert got == {"MinCount": 1, "MaxCount": 1, "TagSpecifications": tags}
    filter = ("Filter.1.Name", "tag:k"), ("Filter.1.Value.1", "")
    assert parse(models, "DescribeInstances", *filter) == {"Filters": [{"Name": "tag:k", "Values": [""]}]}
    cleared = parse(models, "ModifyNetworkInterfaceAttribute", ("NetworkInterfaceId", "eni-1"), ("Description.Value", ""))
    assert cleared == {"NetworkInterfaceId": "eni-1", "Description": {"Value": ""}}
    # The list is absent; one element of it is not.
    assert parse(models, "DescribeInstances", ("InstanceId", "")) == {}
    assert parse(models, "DescribeInstances", ("InstanceId.1", "")) == {"InstanceIds": [""]}
    assert parse(models, "DescribeInstances", ("InstanceId.1", "i-1"), ("InstanceId.2", "")) == {"InstanceIds": ["i-1", ""]}


@pytest.mark.parametrize(
    ("operation", "pairs", "code"),
    [
        ("DescribeInstances", [("Nope", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Nope", "")], "UnknownParameter"),
        ("DescribeInstances", [("Filter.1.Nope", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Filter.x.Name", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Filter.-1.Name", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Filter.\u0661.Name", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Filter.1.Name.deeper", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Filter.1", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Filter", "1")], "UnknownParameter"),
        ("DescribeInstances", [("Filter." + "1." * 5000, "1")], "UnknownParameter"),
        ("DescribeInstances", [("", "1")], "UnknownParameter"),
        ("DescribeInstances", [(".", "1")], "UnknownParameter"),
        ("DescribeInstances", [("filter.1.Name", "1")], "UnknownParameter"),
        ("DescribeInstances", [("InstanceId.1", "a"), ("InstanceId.1", "b")], "InvalidQueryParameter"),
        ("DescribeInstances", [("InstanceId.1", "a"), ("InstanceId", "b")], "InvalidQueryParameter"),
        ("DescribeInstances", [("InstanceId.1", "a"), ("InstanceId.01", "b")], "InvalidQueryParameter"),
        ("DescribeInstances", [("MaxResults", "many")], "InvalidParameterValue"),
        ("DescribeInstances", [("MaxResults", "1e3")], "InvalidParameterValue"),
        ("DescribeInstances", [("MaxResults", "\u0663")], "InvalidParameterValue"),
        ("DescribeInstances", [("MaxResults", str(2**31))], "InvalidParameterValue"),
        ("DescribeInstances", [("DryRun", "maybe")], "InvalidParameterValue"),
        ("DescribeInstances", [("InstanceId.1", "a\x00b")], "InvalidParameterValue"),
        ("ImportKeyPair", [("KeyName", "k"), ("PublicKeyMaterial", "!")], "InvalidParameterValue"),
        ("RunInstances", [("MaxCount", "1")], "MissingParameter"),
        ("CreateTags", [("ResourceId.1", "i-1")], "MissingParameter"),
        ("RunInstances", [("MinCount", ""), ("MaxCount", "1")], "MissingParameter"),
    ],
)
def test_refused(models: Models, operation: str, pairs: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(models, operation, *pairs)
    assert refused.value.aws_code == code
    assert len(str(refused.value)) < 400


def test_missing_says_which(models: Models) -> None:
    with pytest.raises(Refused, match="The request must contain the parameter MinCount"):
        parse(models, "RunInstances", ("MaxCount", "1"))


@pytest.mark.parametrize("text", ["a=%ff", "a=%C3", "&".join(["a=1"] * 20_000)])
def test_forms_that_are_none(text: str) -> None:
    with pytest.raises(Refused) as refused:
        decode_form(text)
    assert refused.value.aws_code == "MalformedQueryString"


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_forms(pairs: list[tuple[str, str]]) -> None:
    assert decode_form(urlencode(pairs)) == pairs


@given(st.text(st.characters(codec=None)))
def test_escaped_text_is_well_formed_and_says_the_same(text: str) -> None:
    escaped = escape(text)
    read = ElementTree.fromstring(f"<a>{escaped}</a>".encode("latin-1")).text or ""
    allowed = [
        c if c in "\t\n\r" or (" " <= c <= "\ud7ff") or ("\ue000" <= c <= "\ufffd") or c > "\uffff" else "\ufffd" for c in text
    ]
    assert read == "".join(allowed)


def test_times_are_whole_seconds() -> None:
    assert timestamp(1632913483.999) == "2021-09-29T11:04:43.000Z"


def test_errors_of_ec2_have_no_namespace_and_two_children() -> None:
    root = ElementTree.fromstring(ec2_error("A.B", "x < y & z \U0001f642", "r-1"))
    assert [child.tag for child in root] == ["Errors", "RequestID"]
    code, message = list(root.findall("Errors/Error")[0])
    assert (code.tag, code.text, message.tag, message.text) == ("Code", "A.B", "Message", "x < y & z \U0001f642")


def test_errors_of_query_services_read_back() -> None:
    body = query_error("https://sts.amazonaws.com/doc/2011-06-15/", "A", "b < c", 403, "r-1")
    read = create_parser("query").parse({"status_code": 403, "headers": {}, "body": body}, None)
    assert read["Error"] == {"Type": "Sender", "Code": "A", "Message": "b < c"}
    assert read["ResponseMetadata"]["RequestId"] == "r-1"


# The table of a model.


def test_a_damaged_table_is_built_again(tmp_path: Path) -> None:
    Models(RealFiles(), tmp_path).service("sts")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[:-1], whole[:5000] + b"x" + whole[5001:], b"y" + whole):
        path.write_bytes(broken)
        assert "GetCallerIdentity" in Models(RealFiles(), tmp_path).service("sts").operations
        assert path.read_bytes() == whole


def test_services_of_other_protocols_say_so() -> None:
    model = b'{"metadata": {"protocol": "json", "serviceId": "X"}, "shapes": {}, "operations": {}}'
    with pytest.raises(ValueError, match="X speaks json"):
        build_table(model)
    with pytest.raises(FileNotFoundError):
        Models(RealFiles(), Path("/nonexistent")).service("no-such-service")
