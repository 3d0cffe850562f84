# SPDX-License-Identifier: BSD-2-Clause
"""Write docs/parameters.md from the table of parameters: `python -m tools.docs.parameters`."""

import json
from pathlib import Path
from typing import Final

from hvkit.hypervisor.kvm.host.node_checks import NODE_TABLE
from hvkit.hypervisor.kvm.plan.parameters import TOPICS
from hvkit.hypervisor.parameters import Parameter

PAGE: Final = Path(__file__).parents[2] / "docs" / "parameters.md"

_INTRODUCTION: Final = """# The parameters of KVM instances

Made by `make parameters` from the table that checks them: do not edit. `hvkit parameters kvm` prints the same, with
`--json` for programs.

What a parameter must be is checked in two steps. `check_parameter_syntax` looks at what can be known anywhere;
`validate_parameters` runs on the node that is to use them and looks at that too. `assess_parameters` tells what is
allowed and yet not wise. An empty text where that is the default means "not set".
"""


def render() -> str:
    """Return the page."""
    sections = [_INTRODUCTION]
    for topic in TOPICS:
        title = (topic.__doc__ or "").removeprefix("Parameters: ").rstrip(".")
        rows = [f"## {title[:1].upper()}{title[1:]}", "", "| name | default | what it is |", "|---|---|---|"]
        rows += [_row(NODE_TABLE[parameter.name]) for parameter in topic.PARAMETERS]
        sections.append("\n".join(rows) + "\n")
    return "\n".join(sections)


def _row(parameter: Parameter) -> str:
    text = parameter.doc
    if parameter.syntax is not None:
        text += f" Expected: {parameter.syntax.condition}."
    if parameter.node is not None:
        text += f" On the node: {parameter.node.condition}."
    return f"| `{parameter.name}` | `{json.dumps(parameter.default)}` | {text.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    PAGE.write_text(render())
