# A VPC as people build one: public and private subnets in two zones, a NAT gateway, groups that refer to each other, and
# another VPC beside it.

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

variable "office" {
  default = "192.0.2.0/24"
}

data "aws_availability_zones" "here" {
  state = "available"
}

locals {
  zones = slice(data.aws_availability_zones.here.names, 0, 2)
}

resource "aws_vpc" "main" {
  cidr_block                       = "10.20.0.0/16"
  enable_dns_hostnames             = true
  assign_generated_ipv6_cidr_block = true
  tags                             = { Name = "main", stage = var.stage }
}

resource "aws_vpc_dhcp_options" "main" {
  domain_name         = "${var.stage}.example"
  domain_name_servers = ["AmazonProvidedDNS"]
  ntp_servers         = ["169.254.169.123"]
}

resource "aws_vpc_dhcp_options_association" "main" {
  vpc_id          = aws_vpc.main.id
  dhcp_options_id = aws_vpc_dhcp_options.main.id
}

resource "aws_subnet" "public" {
  count                   = 2
  vpc_id                  = aws_vpc.main.id
  availability_zone       = local.zones[count.index]
  cidr_block              = cidrsubnet(aws_vpc.main.cidr_block, 8, count.index)
  map_public_ip_on_launch = true
  tags                    = { Name = "public ${count.index}" }
}

resource "aws_subnet" "private" {
  count             = 2
  vpc_id            = aws_vpc.main.id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(aws_vpc.main.cidr_block, 8, 128 + count.index)
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
}

resource "aws_egress_only_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
}

resource "aws_eip" "nat" {
  domain     = "vpc"
  depends_on = [aws_internet_gateway.main]
}

resource "aws_nat_gateway" "main" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.public[0].id
  tags          = { Name = "way out" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.main.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.main.id
  }
  route {
    ipv6_cidr_block        = "::/0"
    egress_only_gateway_id = aws_egress_only_internet_gateway.main.id
  }
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.main.id
}

resource "aws_route" "out" {
  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.main.id
}

resource "aws_route" "to_the_other" {
  route_table_id            = aws_route_table.private.id
  destination_cidr_block    = aws_vpc.other.cidr_block
  vpc_peering_connection_id = aws_vpc_peering_connection.between.id
}

resource "aws_route_table_association" "public" {
  count          = 2
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table_association" "private" {
  count          = 2
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private.id
}

resource "aws_network_acl" "private" {
  vpc_id     = aws_vpc.main.id
  subnet_ids = aws_subnet.private[*].id
  ingress {
    rule_no    = 100
    protocol   = "tcp"
    action     = "allow"
    cidr_block = aws_vpc.main.cidr_block
    from_port  = 0
    to_port    = 65535
  }
  egress {
    rule_no    = 100
    protocol   = "-1"
    action     = "allow"
    cidr_block = "0.0.0.0/0"
    from_port  = 0
    to_port    = 0
  }
}

resource "aws_network_acl" "public" {
  vpc_id     = aws_vpc.main.id
  subnet_ids = aws_subnet.public[*].id
}

resource "aws_network_acl_rule" "ping" {
  network_acl_id = aws_network_acl.public.id
  rule_number    = var.stage == "one" ? 200 : 210
  protocol       = "icmp"
  rule_action    = "allow"
  cidr_block     = "10.0.0.0/8"
  icmp_type      = -1
  icmp_code      = -1
}

resource "aws_ec2_managed_prefix_list" "offices" {
  name           = "offices"
  address_family = "IPv4"
  max_entries    = 4
  entry {
    cidr        = var.office
    description = "where we work"
  }
}

resource "aws_security_group" "web" {
  name        = "web"
  description = "who serves"
  vpc_id      = aws_vpc.main.id
  ingress {
    description     = "from the offices"
    protocol        = "tcp"
    from_port       = 443
    to_port         = 443
    prefix_list_ids = [aws_ec2_managed_prefix_list.offices.id]
  }
  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_security_group" "store" {
  name        = "store"
  description = "who keeps"
  vpc_id      = aws_vpc.main.id
}

resource "aws_vpc_security_group_ingress_rule" "web_to_store" {
  security_group_id            = aws_security_group.store.id
  referenced_security_group_id = aws_security_group.web.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = var.stage == "one" ? 5432 : 5433
  description                  = "stage ${var.stage}"
}

resource "aws_vpc_security_group_egress_rule" "store_to_other" {
  security_group_id            = aws_security_group.store.id
  referenced_security_group_id = aws_security_group.other.id
  ip_protocol                  = "udp"
  from_port                    = 53
  to_port                      = 53
  depends_on                   = [aws_vpc_peering_connection.between]
}

resource "aws_network_interface" "store" {
  subnet_id       = aws_subnet.private[0].id
  private_ips     = ["10.20.128.10", "10.20.128.11"]
  security_groups = [aws_security_group.store.id]
  description     = "the store's own"
}

resource "aws_launch_template" "web" {
  name                   = "web"
  image_id               = "ami-0a170000000000001"
  instance_type          = "t3.nano"
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.web.id]
  user_data              = base64encode("#!/bin/sh\necho ${var.stage}\n")
}

resource "aws_instance" "store" {
  ami           = "ami-0a170000000000001"
  instance_type = "t3.nano"
  network_interface {
    network_interface_id = aws_network_interface.store.id
    device_index         = 0
  }
}

resource "aws_vpc" "other" {
  cidr_block           = "10.30.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = "other" }
}

resource "aws_security_group" "other" {
  name   = "other"
  vpc_id = aws_vpc.other.id
}

resource "aws_vpc_peering_connection" "between" {
  vpc_id      = aws_vpc.main.id
  peer_vpc_id = aws_vpc.other.id
  auto_accept = true
  requester {
    allow_remote_vpc_dns_resolution = true
  }
}

resource "aws_default_security_group" "other" {
  vpc_id = aws_vpc.other.id
}
