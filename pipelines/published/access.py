"""Who may read what is handed to a team: the group of that team, and nobody else.

What belongs here: the groups that `organization.yml` names, and the rights of files and folders.
What does not: which tables and columns a team sees (`publishing.py`).
"""

import grp
import os
from collections.abc import Mapping
from pathlib import Path

from pipelines import reference
from pipelines.book import Book
from pipelines.errors import BookError

FILE_RIGHTS = 0o640
FOLDER_RIGHTS = 0o750


class AccessError(BookError):
    """A team's group cannot be given what is published for it."""


def groups(book: Book) -> Mapping[str, int]:
    """Team -> the group that reads its files; without one it is that of the user who publishes.

    Raises:
        AccessError: `organization.yml` names a group that this machine does not have.
    """
    named = reference.load_organization(book.reference).team_groups
    known = {name: _group_id(name) for name in named.values()}
    if causes := [
        f"organization.yml: team_groups: {team}: found {name!r}, expected a group of this machine:"
        f" add it as `groupadd {name}` does"
        for team, name in named.items()
        if known[name] is None
    ]:
        raise AccessError(causes)
    return {team: group_id for team, name in named.items() if (group_id := known[name]) is not None}


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def restrict(path: Path, group_id: int | None) -> None:
    """Leave a file or folder to its owner and the group.

    Raises:
        AccessError: the user who publishes is not in that group.
    """
    if group_id is not None:
        try:
            os.chown(path, -1, group_id)
        except PermissionError as error:
            name = grp.getgrgid(group_id).gr_name
            raise AccessError(
                [
                    f"{path}: could not be given to group {name!r}, named in team_groups of"
                    " organization.yml: add the user who publishes to that group"
                ]
            ) from error
    path.chmod(FOLDER_RIGHTS if path.is_dir() else FILE_RIGHTS)
