"""``evalsuite-train chat CHECKPOINT --port 8000``: serve a checkpoint on this machine."""

from __future__ import annotations

import socket
import sys
from typing import Annotated

import typer

from evalsuite_train.errors import TrainError, shown

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

LOCAL = ("127.0.0.1", "localhost", "[::1]")


@app.command()
def chat(
    checkpoint: Annotated[str, typer.Argument(help="A folder, or org/name.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Listen here; 0.0.0.0 lets everyone on the network ask.")
    ] = "127.0.0.1",
    settings: Annotated[
        str, typer.Option(help="Generation settings: ziya, atom, yayi, tencent or greedy.")
    ] = "ziya",
    seed: Annotated[int | None, typer.Option(help="The same replies every time.")] = None,
) -> None:
    """Answer questions over HTTP (POST /chat) and on a web page."""
    from evalsuite_train.chat.settings import sampling

    chosen = sampling(settings)
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError:
        hint = "pip install 'evalsuite-train[chat]'"
        raise TrainError("chat needs starlette and uvicorn", hint=hint) from None
    from evalsuite_train.chat.service import service
    from evalsuite_train.chat.speaker import open_speaker

    speaker = open_speaker(checkpoint, chosen, seed)
    everywhere = host in ("0.0.0.0", "::")
    application = service(speaker, hosts=None if everywhere else (*LOCAL, host, f"[{host}]"))
    config = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=2)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as fault:
        hint = "choose another --port, or 0 for a free one"
        raise TrainError(str(fault.strerror), where=f"{host}:{port}", hint=hint) from None
    with listening:
        name = " ".join(shown(speaker.name).split())
        print(f"{name}: http://{host}:{listening.getsockname()[1]}/", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


def main(arguments: list[str] | None = None) -> None:
    """Run the command; faults the user can mend are one message and exit code 2."""
    from evalsuite.errors import EvalsuiteError

    try:
        app(arguments, prog_name="evalsuite-train chat")
    except (TrainError, EvalsuiteError) as fault:
        print(f"error: {shown(str(fault))}", file=sys.stderr)
        sys.exit(2)
