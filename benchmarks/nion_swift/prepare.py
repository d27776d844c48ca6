"""A profile with one empty project, so that the host opens without asking for one."""

import datetime
import json
import pathlib
import sys
import uuid

from nion.swift.model import FileStorageSystem, Profile


def prepare(home: pathlib.Path, name: str) -> None:
    """Write what the host looks for under a home folder on Linux."""
    data = home / ".local" / "share" / "Nion" / "Nion Swift"
    for folder in (data / "Cache", home / ".config" / "Nion" / "Nion Swift", home / "Documents"):
        folder.mkdir(parents=True, exist_ok=True)
    path = data / "Profile.nsproj"
    values = {"version": FileStorageSystem.PROFILE_VERSION, "uuid": str(uuid.uuid4())}
    path.write_text(json.dumps(values))
    storage = FileStorageSystem.make_file_persistent_storage_system(path)
    storage.load_properties()
    profile = Profile.Profile(storage_system=storage, cache_dir_path=data / "Cache")
    profile.read_profile()
    reference = profile.create_project(home / "Documents", name)
    if reference is None:
        raise RuntimeError(f"no project could be made in {home}")
    reference.last_used = datetime.datetime.now()  # as the host keeps it
    profile.last_project_reference = reference.uuid
    profile.script_items_updated = True
    profile.close()


if __name__ == "__main__":
    prepare(pathlib.Path(sys.argv[1]), "project")
