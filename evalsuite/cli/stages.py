"""``evalsuite stages``: the stages of one training, what each gained, lost and gamed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def stages(
    definition: Annotated[
        Path | None, typer.Argument(help="YAML: title, language, family, tasks, compare, margin.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="A folder of runs, or of such folders.")] = Path(
        "runs"
    ),
    html: Annotated[
        Path | None, typer.Option(help="Write the page into this file (or this folder).")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write tables into this .md and curves into an .svg beside.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """Stage by stage: scores, paired changes, rewards, and warnings that name their reason."""
    import sys

    from evalsuite import lines
    from evalsuite.errors import DataMissing
    from evalsuite.files import write_atomically
    from evalsuite.report.visible import one_line
    from evalsuite.stages import Definition, read_definition, study
    from evalsuite.store import find_runs

    wanted = read_definition(definition) if definition is not None else Definition()
    damaged: list[str] = []
    inner = sorted(folder for folder in runs.glob("*") if folder.is_dir())
    folders = [run for place in (runs, *inner) for run in find_runs(place, damaged)]
    for fault in damaged:
        print(f"note: left out: {one_line(fault)}", file=sys.stderr)
    if not folders:
        raise DataMissing("no runs to show", where=str(runs), hint="give --runs DIR")
    found = study(folders, wanted)
    if json:
        sys.stdout.write(lines.encode(found).decode("utf-8") + "\n")
    else:
        from evalsuite.report.stages_terminal import print_stages

        print_stages(found)
    if html is not None:
        from evalsuite.report.stages_page import render_stages

        page = html if html.suffix == ".html" else html / "index.html"
        write_atomically(page, render_stages(found))
        print(f"stages: {page.resolve()}", file=sys.stderr)
    if markdown is not None:
        from evalsuite.report.stages_markdown import stages_markdown
        from evalsuite.report.stages_page import curves_svg

        picture = markdown.with_suffix(".svg")
        write_atomically(picture, curves_svg(found))
        write_atomically(markdown, stages_markdown(found, picture.name))
        print(f"stages: {markdown.resolve()}", file=sys.stderr)
