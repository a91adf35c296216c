"""`hpsearch dashboard`."""

from __future__ import annotations

import subprocess
import sys

import click

from search.workspace import Workspace


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on. The default shuts out other machines.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, help="Port to listen on.")
@click.pass_obj
def dashboard(workspace: Workspace, host: str, port: int) -> None:
    """Browse the studies in optuna-dashboard. Press Ctrl-C to stop it.

    \b
    hpsearch dashboard --port 8081
    """
    from studies.storage import database_url, existing_storage

    existing_storage(workspace.database)
    workspace.artifacts.mkdir(exist_ok=True)
    click.echo(f"http://{host}:{port}/  (Ctrl-C ends it)")
    command = [sys.executable, "-P", "-c", "from optuna_dashboard._cli import main; main()"]
    where = ["--host", host, "--port", str(port), "--artifact-dir", str(workspace.artifacts.absolute())]
    process = subprocess.Popen([*command, database_url(workspace.database), *where])
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
    if process.returncode > 0:
        raise click.ClickException(f"optuna-dashboard ended with {process.returncode}; is port {port} in use?")
