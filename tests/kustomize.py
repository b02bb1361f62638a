"""What `kubectl kustomize` does, for the part of it that cluster/kubernetes uses.

Resources, components, image names, and JSON patches (RFC 6902: replace, add a key) aimed at a kind; anything else is an
error. Where kubectl is installed, a test compares the two.
"""

from pathlib import Path
from typing import Any

import yaml

KEYS = {"apiVersion", "kind", "resources", "components", "images", "patches"}


def render(folder: Path) -> list[dict[str, Any]]:
    """Objects of a kustomization, in no particular order."""
    return apply(folder, [])


def apply(folder: Path, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rules = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(rules) <= KEYS, f"{folder}: {set(rules) - KEYS}"
    for name in rules.get("resources", []):
        path = (folder / name).resolve()
        objects += render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for name in rules.get("components", []):
        objects = apply((folder / name).resolve(), objects)
    for patch in rules.get("patches", []):
        for one in objects:
            if one["kind"] == patch["target"]["kind"]:
                for operation in yaml.safe_load((folder / patch["path"]).read_text()):
                    change(one, **operation)
    for image in rules.get("images", []):
        rename(objects, image["name"], f"{image['newName']}:{image['newTag']}")
    return objects


def change(target: Any, op: str, path: str, value: Any) -> None:
    *above, last = [int(part) if part.isdigit() else part for part in path.strip("/").split("/")]
    for part in above:
        target = target[part]
    assert op == ("replace" if last in target else "add"), f"{op} {path}"
    target[last] = value


def rename(node: Any, old: str, new: str) -> None:
    if isinstance(node, list):
        for item in node:
            rename(item, old, new)
    elif isinstance(node, dict):
        for container in node.get("containers", []):
            container["image"] = new if container["image"] == old else container["image"]
        for item in node.values():
            rename(item, old, new)
