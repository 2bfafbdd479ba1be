# The kinds of resources that network.tf has none of: disks and images, what an account chooses, machines with everything that
# they may be told, defaults, endpoints and the associations that are resources of their own. Variable `stage` changes some
# argument of most of them.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  default_tags {
    tags = { made_by = "terraform" }
  }
}

variable "stage" {
  default = "one"
}

data "aws_region" "here" {}

data "aws_caller_identity" "me" {}

data "aws_availability_zones" "here" {}

data "aws_ami" "tiny" {
  filter {
    name   = "image-id"
    values = ["ami-0a170000000000001"]
  }
}

data "aws_ec2_instance_type" "small" {
  instance_type = "t3.small"
}

locals {
  first   = var.stage == "one"
  zone    = data.aws_availability_zones.here.names[0]
  service = "com.amazonaws.${data.aws_region.here.name}"
  key     = "arn:aws:kms:${data.aws_region.here.name}:${data.aws_caller_identity.me.account_id}:key"
  other   = "123456789012" # an account
}

# What the account chooses.

resource "aws_ebs_default_kms_key" "own" {
  key_arn = "${local.key}/${local.first ? "1" : "2"}1111111-2222-3333-4444-555555555555"
}

resource "aws_ebs_snapshot_block_public_access" "own" {
  state = local.first ? "block-all-sharing" : "block-new-sharing"
}

resource "aws_ec2_serial_console_access" "own" {
  enabled = local.first
}

resource "aws_ec2_instance_metadata_defaults" "own" {
  http_tokens                 = local.first ? "required" : "optional"
  http_put_response_hop_limit = local.first ? 2 : 3
  instance_metadata_tags      = "enabled"
}

# Disks and images.

resource "aws_ebs_volume" "data" {
  availability_zone = local.zone
  size              = local.first ? 8 : 9
  type              = "gp3"
  iops              = local.first ? 3000 : 3500
  throughput        = local.first ? 125 : 150
  tags              = { Name = "data", stage = var.stage }
}

resource "aws_ebs_snapshot" "data" {
  volume_id   = aws_ebs_volume.data.id
  description = "as it was"
  tags        = { stage = var.stage }
}

resource "aws_ebs_snapshot_copy" "data" {
  source_snapshot_id = aws_ebs_snapshot.data.id
  source_region      = data.aws_region.here.name
  encrypted          = true
  kms_key_id         = "${local.key}/31111111-2222-3333-4444-555555555555"
}

resource "aws_snapshot_create_volume_permission" "other" {
  snapshot_id = aws_ebs_snapshot.data.id
  account_id  = local.other
}

resource "aws_ami" "made" {
  name                = "made"
  virtualization_type = "hvm"
  root_device_name    = "/dev/sda1"
  ena_support         = true
  ebs_block_device {
    device_name = "/dev/sda1"
    snapshot_id = aws_ebs_snapshot.data.id
    volume_size = 11
    volume_type = "gp3"
    iops        = 3000
    throughput  = 125
  }
  ephemeral_block_device {
    device_name  = "/dev/sdc"
    virtual_name = "ephemeral0"
  }
  tags = { stage = var.stage }
}

resource "aws_ami_copy" "copied" {
  name              = "copied"
  source_ami_id     = aws_ami.made.id
  source_ami_region = data.aws_region.here.name
}

resource "aws_ami_launch_permission" "other" {
  image_id   = aws_ami.made.id
  account_id = local.other
}

# Where machines are: the default VPC, and what belongs to it.

resource "aws_default_vpc" "here" {
  tags = { Name = "default", stage = var.stage }
}

resource "aws_default_subnet" "here" {
  availability_zone = local.zone
  tags              = { Name = "default", stage = var.stage }
  depends_on        = [aws_default_vpc.here]
}

resource "aws_default_network_acl" "here" {
  default_network_acl_id = aws_default_vpc.here.default_network_acl_id
  ingress {
    rule_no    = 100
    protocol   = "-1"
    action     = "allow"
    cidr_block = local.first ? "0.0.0.0/0" : "10.0.0.0/8"
    from_port  = 0
    to_port    = 0
  }
  lifecycle {
    ignore_changes = [subnet_ids]
  }
}

resource "aws_placement_group" "parts" {
  name            = "parts"
  strategy        = "partition"
  partition_count = 2
}

resource "aws_security_group" "ends" {
  name   = "ends"
  vpc_id = aws_default_vpc.here.id
}

resource "aws_security_group_rule" "names" {
  type              = "egress"
  security_group_id = aws_security_group.ends.id
  protocol          = "udp"
  from_port         = 53
  to_port           = local.first ? 53 : 54
  prefix_list_ids   = [aws_ec2_managed_prefix_list.names.id]
}

resource "aws_ec2_managed_prefix_list" "names" {
  name           = "names"
  address_family = "IPv4"
  max_entries    = local.first ? 5 : 6
}

resource "aws_ec2_managed_prefix_list_entry" "names" {
  count          = local.first ? 3 : 2
  prefix_list_id = aws_ec2_managed_prefix_list.names.id
  cidr           = "10.${100 + count.index}.0.0/16"
  description    = "number ${count.index}"
}

# A VPC whose parts are put together by resources of their own.

resource "aws_vpc" "parts" {
  cidr_block = "10.60.0.0/16"
}

resource "aws_vpc" "beside" {
  cidr_block = "10.61.0.0/16"
}

resource "aws_vpc_ipv4_cidr_block_association" "more" {
  vpc_id     = aws_vpc.parts.id
  cidr_block = "10.62.0.0/16"
}

resource "aws_subnet" "parts" {
  vpc_id            = aws_vpc.parts.id
  cidr_block        = "10.60.1.0/24"
  availability_zone = local.zone
  lifecycle {
    ignore_changes = [tags, tags_all] # aws_ec2_tag
  }
}

resource "aws_ec2_tag" "parts" {
  resource_id = aws_subnet.parts.id
  key         = "stage"
  value       = var.stage
}

resource "aws_internet_gateway" "parts" {}

resource "aws_internet_gateway_attachment" "parts" {
  internet_gateway_id = aws_internet_gateway.parts.id
  vpc_id              = aws_vpc.parts.id
}

resource "aws_route_table" "parts" {
  vpc_id = aws_vpc.parts.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway_attachment.parts.internet_gateway_id
  }
}

resource "aws_main_route_table_association" "parts" {
  vpc_id         = aws_vpc.parts.id
  route_table_id = aws_route_table.parts.id
}

resource "aws_network_acl" "parts" {
  vpc_id = aws_vpc.parts.id
}

resource "aws_network_acl_association" "parts" {
  network_acl_id = aws_network_acl.parts.id
  subnet_id      = aws_subnet.parts.id
}

resource "aws_security_group" "parts" {
  name   = "parts"
  vpc_id = aws_vpc.parts.id
}

resource "aws_vpc_security_group_vpc_association" "parts" {
  security_group_id = aws_security_group.parts.id
  vpc_id            = aws_vpc.beside.id
}

resource "aws_vpc_peering_connection" "parts" {
  vpc_id      = aws_vpc.parts.id
  peer_vpc_id = aws_vpc.beside.id
  peer_region = data.aws_region.here.name
}

resource "aws_vpc_peering_connection_accepter" "parts" {
  vpc_peering_connection_id = aws_vpc_peering_connection.parts.id
  auto_accept               = true
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id       = aws_vpc.parts.id
  service_name = "${local.service}.s3"
  lifecycle {
    ignore_changes = [policy]
  }
}

resource "aws_vpc_endpoint_route_table_association" "s3" {
  vpc_endpoint_id = aws_vpc_endpoint.s3.id
  route_table_id  = aws_route_table.parts.id
}

resource "aws_vpc_endpoint_policy" "s3" {
  vpc_endpoint_id = aws_vpc_endpoint.s3.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Sid = var.stage, Effect = "Allow", Principal = "*", Action = "s3:*", Resource = "*" }]
  })
}

resource "aws_vpc_endpoint" "ec2" {
  vpc_id             = aws_vpc.parts.id
  service_name       = "${local.service}.ec2"
  vpc_endpoint_type  = "Interface"
  subnet_ids         = [aws_subnet.parts.id]
  security_group_ids = [aws_security_group.parts.id]
  dns_options {
    dns_record_ip_type = "ipv4"
  }
}

resource "aws_network_interface" "free" {
  subnet_id         = aws_subnet.parts.id
  private_ips_count = local.first ? 1 : 3
  source_dest_check = local.first
  lifecycle {
    ignore_changes = [security_groups]
  }
}

resource "aws_network_interface_sg_attachment" "free" {
  security_group_id    = aws_security_group.parts.id
  network_interface_id = aws_network_interface.free.id
}

resource "aws_eip" "free" {}

resource "aws_eip_association" "free" {
  allocation_id        = aws_eip.free.id
  network_interface_id = aws_network_interface.free.id
  depends_on           = [aws_internet_gateway_attachment.parts]
}

resource "aws_nat_gateway" "inside" {
  connectivity_type                  = "private"
  subnet_id                          = aws_subnet.parts.id
  private_ip                         = "10.60.1.100"
  secondary_private_ip_address_count = 1
}

# Machines with all that they may be told.

resource "aws_launch_template" "wide" {
  name_prefix   = "wide-"
  description   = "stage ${var.stage}"
  image_id      = data.aws_ami.tiny.id
  instance_type = data.aws_ec2_instance_type.small.id
  block_device_mappings {
    device_name = "/dev/sdf"
    ebs {
      volume_size           = 1
      volume_type           = "gp3"
      iops                  = 3000
      throughput            = 125
      encrypted             = true
      delete_on_termination = true
    }
  }
  block_device_mappings {
    device_name  = "/dev/sdg"
    virtual_name = "ephemeral0"
  }
  credit_specification {
    cpu_credits = "standard"
  }
  cpu_options {
    core_count       = 1
    threads_per_core = 2
  }
  maintenance_options {
    auto_recovery = "disabled"
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
    instance_metadata_tags      = "enabled"
  }
  monitoring {
    enabled = true
  }
  network_interfaces {
    device_index                = 0
    description                 = "the first"
    associate_public_ip_address = local.first
    delete_on_termination       = true
    subnet_id                   = aws_default_subnet.here.id
    security_groups             = [aws_security_group.ends.id]
    ipv4_address_count          = 2
  }
  placement {
    group_name       = aws_placement_group.parts.name
    partition_number = 2
  }
  private_dns_name_options {
    hostname_type                     = "resource-name"
    enable_resource_name_dns_a_record = true
  }
  tag_specifications {
    resource_type = "network-interface"
    tags          = { Name = "of the template's" }
  }
}

resource "aws_launch_template" "required" {
  name = "required"
  instance_requirements {
    vcpu_count {
      min = 1
      max = 4
    }
    memory_mib {
      min = 512
    }
  }
}

resource "aws_instance" "from_template" {
  launch_template {
    id      = aws_launch_template.wide.id
    version = "1"
  }
}

resource "aws_instance" "wide" {
  ami                                  = data.aws_ami.tiny.id
  instance_type                        = data.aws_ec2_instance_type.small.id
  subnet_id                            = aws_default_subnet.here.id
  vpc_security_group_ids               = local.first ? [aws_security_group.ends.id] : [aws_default_vpc.here.default_security_group_id]
  secondary_private_ips                = [cidrhost(aws_default_subnet.here.cidr_block, 1000)]
  source_dest_check                    = local.first
  disable_api_termination              = local.first
  monitoring                           = local.first
  instance_initiated_shutdown_behavior = local.first ? "terminate" : "stop"
  placement_group                      = aws_placement_group.parts.name
  placement_partition_number           = 1
  root_block_device {
    volume_size           = 8
    volume_type           = "gp3"
    encrypted             = true
    delete_on_termination = true
    tags                  = { Name = "root", stage = var.stage }
  }
  ebs_block_device {
    device_name = "/dev/sdf"
    volume_size = 1
  }
  metadata_options {
    http_tokens                 = local.first ? "optional" : "required"
    http_put_response_hop_limit = local.first ? 1 : 2
  }
  credit_specification {
    cpu_credits = local.first ? "standard" : "unlimited"
  }
  private_dns_name_options {
    hostname_type                     = "ip-name"
    enable_resource_name_dns_a_record = local.first
  }
  tags = { Name = "wide", stage = var.stage }
}

data "aws_instances" "wide" {
  instance_tags = { Name = "wide", stage = var.stage }
  depends_on    = [aws_instance.wide]
}

output "wide" {
  value = data.aws_instances.wide.ids
}
