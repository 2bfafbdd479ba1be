# What packets can be sent to: a public subnet with a way in, a private one with a way out, and groups that refer to each other.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {}

variable "public_key" {}

variable "readers" {
  default = "192.0.2.0/24"
}

locals {
  image = "ami-0a170000000000001"
}

resource "aws_key_pair" "me" {
  key_name   = "me"
  public_key = var.public_key
}

resource "aws_vpc" "main" {
  cidr_block           = "10.30.0.0/16"
  enable_dns_hostnames = true
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
}

resource "aws_subnet" "public" {
  vpc_id     = aws_vpc.main.id
  cidr_block = "10.30.0.0/24"
}

resource "aws_subnet" "private" {
  vpc_id     = aws_vpc.main.id
  cidr_block = "10.30.1.0/24"
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.main.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.main.id
  }
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.main.id
  route {
    cidr_block     = "0.0.0.0/0"
    nat_gateway_id = aws_nat_gateway.main.id
  }
}

resource "aws_route_table_association" "public" {
  subnet_id      = aws_subnet.public.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table_association" "private" {
  subnet_id      = aws_subnet.private.id
  route_table_id = aws_route_table.private.id
}

resource "aws_eip" "nat" {
  domain     = "vpc"
  depends_on = [aws_internet_gateway.main]
}

resource "aws_nat_gateway" "main" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.public.id
  depends_on    = [aws_internet_gateway.main]
}

resource "aws_security_group" "door" {
  name   = "door"
  vpc_id = aws_vpc.main.id
}

resource "aws_security_group" "store" {
  name   = "store"
  vpc_id = aws_vpc.main.id
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each          = { door = aws_security_group.door.id, store = aws_security_group.store.id }
  security_group_id = each.value
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  security_group_id = aws_security_group.door.id
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "readers" {
  security_group_id = aws_security_group.door.id
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = var.readers
}

resource "aws_vpc_security_group_ingress_rule" "store_to_door" {
  security_group_id            = aws_security_group.door.id
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  referenced_security_group_id = aws_security_group.store.id
}

resource "aws_vpc_security_group_ingress_rule" "door_to_store" {
  security_group_id            = aws_security_group.store.id
  ip_protocol                  = "tcp"
  from_port                    = 22
  to_port                      = 22
  referenced_security_group_id = aws_security_group.door.id
}

resource "aws_launch_template" "door" {
  name                   = "door"
  image_id               = local.image
  instance_type          = "m1.tiny"
  key_name               = aws_key_pair.me.key_name
  vpc_security_group_ids = [aws_security_group.door.id]
}

resource "aws_instance" "door" {
  subnet_id = aws_subnet.public.id
  launch_template {
    id      = aws_launch_template.door.id
    version = aws_launch_template.door.latest_version
  }
}

resource "aws_eip" "door" {
  domain     = "vpc"
  instance   = aws_instance.door.id
  depends_on = [aws_internet_gateway.main]
}

resource "aws_network_interface" "store" {
  subnet_id       = aws_subnet.private.id
  private_ips     = ["10.30.1.10"]
  security_groups = [aws_security_group.store.id]
}

resource "aws_instance" "store" {
  ami           = local.image
  instance_type = "m1.tiny"
  key_name      = aws_key_pair.me.key_name
  network_interface {
    network_interface_id = aws_network_interface.store.id
    device_index         = 0
  }
}

output "door" {
  value = aws_eip.door.public_ip
}

output "door_inside" {
  value = aws_instance.door.private_ip
}

output "nat" {
  value = aws_eip.nat.public_ip
}
