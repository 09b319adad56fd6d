"""``evalsuite doctor``: what works on this machine."""

from __future__ import annotations


def doctor() -> int:
    """Tell what of engines, GPU, sandbox and data works here, and what to install."""
    from rich.table import Table

    from evalsuite.diagnosis import diagnose
    from evalsuite.report.tables import print_table

    table = Table()
    for column in ("part", "state", "detail", "to mend it"):
        table.add_column(column, overflow="fold")
    findings = diagnose()
    for finding in findings:
        table.add_row(finding.part, finding.state, finding.detail, finding.remedy)
    print_table(table)
    return 4 if any(f.state == "broken" for f in findings) else 0
