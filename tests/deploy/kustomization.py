"""Renders a folder with kustomization.yaml, as far as deploy/kubernetes uses them: resources, components, configMapGenerator of
files, patches (strategic merge, JSON 6902), namespace. Debian has no kustomize that knows components; where there is one,
kubernetes_test.py compares.
"""

import copy
import hashlib
import json
import pathlib

import yaml

KNOWN = {"apiVersion", "kind", "resources", "components", "configMapGenerator", "patches", "namespace"}
# By what strategic merges tell the items of a list apart.
MERGE_KEYS = {"containers": "name", "initContainers": "name", "volumes": "name", "volumeMounts": "mountPath"}


def render(folder):
    return _accumulate(pathlib.Path(folder), [])


def name_of(thing):
    return thing["kind"], thing["metadata"]["name"]


def _accumulate(folder, objects):
    """What the folder makes of these objects: its own come after them."""
    spec = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(spec) - KNOWN:
        raise ValueError(f"{folder}: {sorted(unknown)} is not rendered here")
    objects = list(objects)
    for entry in spec.get("resources", []):
        path = folder / entry
        objects += _accumulate(path, []) if path.is_dir() else yaml.safe_load_all(path.read_text())
    for entry in spec.get("components", []):
        objects = _accumulate(folder / entry, objects)
    for generator in spec.get("configMapGenerator", []):
        objects.append(_config_map(folder, generator, objects))
    for patch in spec.get("patches", []):
        objects = _patch(objects, patch, folder)
    if namespace := spec.get("namespace"):
        for thing in objects:
            thing["metadata"]["namespace"] = namespace
    return objects


def _config_map(folder, generator, objects):
    """Its name ends in a hash of what it holds, also where others name it."""
    data = {name: (folder / name).read_text() for name in generator["files"]}
    compact = json.dumps({"data": data, "kind": "ConfigMap", "name": ""}, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(compact.encode()).hexdigest()[:10]
    name = f"{generator['name']}-{digest.translate(str.maketrans('013ae', 'ghkmt'))}"
    for thing in objects:
        for volume in thing.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", []):
            if volume.get("configMap", {}).get("name") == generator["name"]:
                volume["configMap"]["name"] = name
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _patch(objects, entry, folder):
    patch = yaml.safe_load((folder / entry["path"]).read_text() if "path" in entry else entry["patch"])
    target = tuple(entry[key] for key in ("target",) if key in entry)
    target = (target[0]["kind"], target[0]["name"]) if target else name_of(patch)
    if target not in [name_of(thing) for thing in objects]:
        raise ValueError(f"{folder}: a patch is for {target}, which is not there")
    result = []
    for thing in objects:
        if name_of(thing) == target:
            if isinstance(patch, dict) and patch.get("$patch") == "delete":
                continue
            thing = _json_patch(thing, patch) if isinstance(patch, list) else _merge(thing, patch)
        result.append(thing)
    return result


def _merge(old, new, key=None):
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {name: _merge(old[name], value, name) if name in old else value for name, value in new.items()}
    if isinstance(old, list) and key in MERGE_KEYS:
        by = MERGE_KEYS[key]
        patches = {item[by]: item for item in new}
        present = {item[by] for item in old}
        # New items come first, as kustomize puts them.
        return ([item for item in new if item[by] not in present]
                + [_merge(item, patches[item[by]]) if item[by] in patches else item for item in old])
    return new


def _json_patch(thing, operations):
    thing = copy.deepcopy(thing)
    for operation in operations:
        *parents, last = operation["path"].strip("/").split("/")
        place = thing
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if operation["op"] == "add" and isinstance(place, list):
            place.insert(len(place) if last == "-" else int(last), operation["value"])
        elif operation["op"] == "add" or (operation["op"] == "replace" and last in place):
            place[last] = operation["value"]
        elif operation["op"] == "remove":
            del place[last]
        else:
            raise ValueError(f"{operation['op']} {operation['path']} finds nothing")
    return thing
