"""Commands about the profiles of a user: profile ls, add, use, rm."""

from __future__ import annotations

from typing import Annotated

import trio
from cyclopts import Parameter

from warehouse.cli.app import profiles
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.formats import printable
from warehouse.cli.output.objects import say, say_json, tell
from warehouse.cli.usage import UsageError
from warehouse.conf.named_profiles import (
    check_name,
    current_name,
    profile_names,
    profile_path,
    remove_profile,
    use_profile,
)
from warehouse.conf.profile import Profile, load_profile
from warehouse.errors import BadSetting

Json = Annotated[bool, Parameter(help="Print one JSON object per line.")]


@profiles.command(name="ls")
def list_profiles(*, json: Json = False) -> None:
    """List the profiles by name; a star marks the one in use. No secret is shown."""
    current = current_name()
    for name in profile_names():
        problem, master, key_id = "", "", ""
        try:
            profile = Profile.load(profile_path(name))
        except BadSetting as error:
            problem = error.message
        else:
            master, key_id = profile.master, profile.key_id
        is_current = name == current
        if json:
            say_json(profile=name, is_current=is_current, master=master, key_id=key_id, problem=problem)
        else:
            about = printable(problem) if problem else f"{master}  {printable(key_id)}"
            say(f"{'*' if is_current else ' '} {name:<20}  {about}")


@profiles.command
async def add(
    name: str,
    /,
    *,
    force: Annotated[bool, Parameter(help="Replace a profile of this name.")] = False,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Keep a profile under a name: that of --profile or --data, or the one that would be used now.

    For example:

        warehouse profile add home --data /srv/warehouse
        warehouse profile add work --profile Downloads/profile.toml
        warehouse ls --profile work

    Parameters
    ----------
    name
        1 to 64 of A-Z, a-z, 0-9, '.', '-', '_'.
    """
    path = profile_path(check_name(name))
    if path.exists() and not force:
        raise UsageError(f"there is a profile {name!r} already; --force replaces it")
    profile = await trio.to_thread.run_sync(load_profile, common.profile_path(), abandon_on_cancel=True)
    profile.save(path)
    tell(common.json, f"added {name}: {profile.master}, key {profile.key_id}", event="added", profile=name)
    return 0


@profiles.command
def use(name: str, /, *, json: Json = False) -> None:
    """Use a profile where none is named. A store in ./warehouse-data still comes first.

    Parameters
    ----------
    name
        As `warehouse profile ls` shows it.
    """
    use_profile(name)
    tell(json, f"using {name}", event="used", profile=name)


@profiles.command
def rm(name: str, /, *, json: Json = False) -> None:
    """Delete a profile from this machine; its API key stays valid.

    Parameters
    ----------
    name
        As `warehouse profile ls` shows it.
    """
    remove_profile(name)
    tell(json, f"deleted the profile {name}", event="deleted", profile=name)
