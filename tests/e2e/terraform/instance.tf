terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {}
variable "colour" { default = "red" }
resource "aws_key_pair" "me" {
  key_name   = "terraform"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBW4VDZ0bXv0Q4uyDJ5cX9SrsXHo5z9Hj9Jq0m1Hn3kL me"
}
resource "aws_instance" "web" {
  ami           = "ami-0a170000000000001"
  instance_type = "t3.nano"
  key_name      = aws_key_pair.me.key_name
  user_data     = "#!/bin/sh\necho hello > /www/hello\n"
  tags          = { Name = "web", colour = var.colour }
}
