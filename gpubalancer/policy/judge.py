"""From the file's tree to a policy, or to all of its faults at once.

The schema compares sections only when every value in them is right. So that one wrong value does not hide what else is
wrong, the sections are compared once more without the wrong values, unless those are names that others refer to: then
everything that refers to them would seem wrong too.
"""

import copy
from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from gpubalancer.policy.explain import Tree, explain
from gpubalancer.policy.faults import Fault, PolicyError
from gpubalancer.policy.findings import Path
from gpubalancer.policy.schema import Policy


def judge(tree: Tree, folder: FilePath) -> Policy:
    """The policy that `tree` describes, relative paths starting at `folder`. Raises `PolicyError` with all faults."""
    try:
        policy = Policy.model_validate(tree.data, context={"folder": folder})
    except ValidationError as error:
        raise PolicyError(_all_faults(error, tree)) from None
    if tree.faults:
        raise PolicyError(tree.faults)
    return policy


def _all_faults(error: ValidationError, tree: Tree) -> list[Fault]:
    wrong, disagreeing = explain(error, tree)
    unread = {fault.path for fault in tree.faults}
    wrong = [fault for fault in wrong if fault.path not in unread]
    faulty = unread | {fault.path for fault in wrong}
    if not disagreeing:
        disagreeing = _disagreements(_without(tree.data, faulty), tree)
    if any(map(_is_referred_to, faulty)):
        disagreeing = []
    others = [fault for fault in disagreeing if not any(_is_within(fault.path, path) for path in faulty)]
    return tree.faults + wrong + others


def _disagreements(data: Any, tree: Tree) -> list[Fault]:
    """In what the sections of `data` disagree; nothing if its values are still wrong."""
    try:
        Policy.model_validate(data)
    except ValidationError as error:
        return explain(error, tree)[1]
    return []


def _is_referred_to(path: Path) -> bool:
    """True for what other sections name: a section, one item of it, a name, an alias."""
    is_item = len(path) <= 2 and path[:1] in (("tiers",), ("models",), ("backends",), ("tenants",))
    return not path or is_item or path[-1] == "name" or "aliases" in path


def _is_within(path: Path, other: Path) -> bool:
    """True if one of the two is the other or a part of it: then the one may be an echo of the other."""
    shared = min(len(path), len(other))
    return path[:shared] == other[:shared]


def _without(data: Any, paths: Iterable[Path]) -> Any:
    """A copy of `data` without the keys at `paths`."""
    data = copy.deepcopy(data)
    for path in paths:
        holder = data
        for key in path[:-1]:
            holder = _item(holder, key)
        if isinstance(holder, dict) and path:
            holder.pop(path[-1], None)
    return data


def _item(holder: Any, key: str | int) -> Any:
    if isinstance(holder, dict):
        return holder.get(key)
    return holder[key] if isinstance(holder, list) and isinstance(key, int) else None
