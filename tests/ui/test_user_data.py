"""Goal: user data that will not run as its writer thinks is told before the launch, what is well is left alone, and what came
of it is read from the console. Method: files as people write them; consoles as the tiny image and cloud-init write them."""

import pytest

from alto.ui.cli.user_data import Here, Outcome, findings, outcome

HERE = Here(hostname="laptop", home="/home/ann")


def said(data: bytes, *, tiny: bool = False) -> list[str]:
    return [finding.what for finding in findings(data, HERE, tiny=tiny)]


@pytest.mark.parametrize(
    "data",
    [
        b"#!/bin/sh\necho $(hostname)\n",
        b"#!/bin/bash\necho $HOSTNAME\n",
        b"#cloud-config\npackages: [nginx]\n",
        b"#include\nhttps://example.com/script\n",
        b"Content-Type: multipart/mixed; boundary=x\n",
        b"\x1f\x8b\x08rest",
        b"#!/bin/sh\necho laptops are no laptop-1\n",
    ],
)
def test_nothing_is_said_of_what_is_well(data: bytes) -> None:
    assert said(data) == []


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"apt-get install nginx\n", "the first line of the user data is 'apt-get install nginx'"),
        (b"\n#!/bin/sh\n", "white space"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
        (b"#!/bin/sh\r\necho\r\n", "CR LF"),
        (b"#cloud-config\npackages: [nginx\n", "no YAML in line"),
        (b"#cloud-config\n- nginx\n", "no keys"),
        (b"#cloud-config\n", "no keys"),
        # The demo's trap (requirement E9): the shell on the laptop has put its own name in.
        (b"#!/bin/sh\nwget http://collector/laptop/\n", "$HOSTNAME: laptop"),
        (b"#!/bin/sh\ncat /home/ann/key\n", "$HOME: /home/ann"),
        (b"#!/bin/sh\nwget http://collector/$HOSTNAME/\n", "uses $HOSTNAME"),
        (b"#!/bin/sh\nwget http://collector/${HOSTNAME}/\n", "uses $HOSTNAME"),
    ],
)
def test_a_mistake_is_told(data: bytes, word: str) -> None:
    (what,) = said(data)
    assert word in what


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"#!/bin/bash\ntrue\n", "/bin/bash"),
        (b"#!/usr/bin/python3\n", "/usr/bin/python3"),
        (b"#cloud-config\na: 1\n", "scripts only"),
    ],
)
def test_the_small_image_runs_only_scripts_of_its_own_shell(data: bytes, word: str) -> None:
    (what,) = said(data, tiny=True)
    assert word in what
    assert said(b"#!/bin/sh -e\ntrue\n", tiny=True) == []


def test_a_finding_says_what_why_and_what_next() -> None:
    (finding,) = findings(b"echo\n", HERE, tiny=False)
    first, why, hint = finding.lines()
    assert first.startswith("warning: ")
    assert why.strip()
    assert hint.strip().startswith("try: ")


BOOT = b"alto tiny: boot 1\r\nalto tiny: user data begins\r\n"


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        (b"", None),
        (b"alto tiny: boot 1\r\nlogin: ", None),
        (BOOT + b"hello\r\n", Outcome(said="runs", tail=("hello", ""))),
        (
            BOOT + b"hello\r\nalto tiny: user data ended with 0 after 3 s\r\n",
            Outcome(said="exit 0 after 3 s", exit=0, tail=("hello",)),
        ),
        (
            BOOT + b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\nalto tiny: user data ended with 127 after 0 s\r\n",
            Outcome(said="exit 127 after 0 s", exit=127, tail=("2", "3", "4", "5", "6")),
        ),
        (
            b"alto tiny: user data is kept, not run: its first line has no #!\r\n",
            Outcome(said="kept and not run: its first line has no #!"),
        ),
        (
            b"cloud-init[7]: Cloud-init v. 24.1 finished at Sat, 21 Nov 2026. Datasource DataSourceEc2.  Up 9.12 seconds\n",
            Outcome(said="cloud-init finished, no script failed"),
        ),
        (
            b"x WARNING: Failed running /var/lib/cloud/instance/scripts/part-001 [3]\n"
            b"cloud-init[7]: Cloud-init v. 24.1 finished at Sat, 21 Nov 2026. Datasource DataSourceEc2.  Up 9.12 seconds\n",
            Outcome(
                said="cloud-init ran part-001: exit 3",
                exit=3,
                tail=("x WARNING: Failed running /var/lib/cloud/instance/scripts/part-001 [3]",),
            ),
        ),
    ],
)
def test_the_console_tells_what_came_of_it(console: bytes, expected: Outcome | None) -> None:
    assert outcome(console) == expected
