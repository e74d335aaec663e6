"""The folder where downloaded tools are kept between runs."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def folder():
    """The cache folder; set CAMPAIGN_CACHE_DIR to choose another."""
    chosen = os.environ.get("CAMPAIGN_CACHE_DIR")
    if chosen:
        path = Path(chosen)
    elif os.geteuid() == 0:
        # Not below /root: PostgreSQL runs as another user and must be able to read its files.
        path = Path("/var/cache/campaign-control")
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "campaign-control"
    path.mkdir(parents=True, exist_ok=True)
    return path


def build_once(name, build):
    """The folder `name` in the cache, made by `build(draft)` the first time.

    It is made under another name and moved into place, so that two runs at once cannot spoil it.
    """
    final = folder() / name
    if final.is_dir():
        return final
    draft = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder()))
    try:
        # mkdtemp is private; another user may have to read what is inside.
        draft.chmod(0o755)
        build(draft)
        try:
            draft.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def pip_install(target, packages):
    """Installs packages into a folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check",
               "--no-warn-script-location", "--root-user-action=ignore", "--target", str(target), *packages]
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    except subprocess.CalledProcessError:
        sys.exit(f"could not install {', '.join(packages)} with pip; "
                 "see above, and install pip (Debian: apt-get install python3-pip) if it is missing")
