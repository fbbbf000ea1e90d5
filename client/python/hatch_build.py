"""Generates the stubs of dla.v1 into the wheel; puts what they are generated from into the sdist."""

import pathlib
import tempfile

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO = "dla/v1/classifier.proto"
IMPORTED = "google/rpc/status.proto"  # its stub comes from googleapis-common-protos


class StubsHook(BuildHookInterface):
    def initialize(self, version, build_data):
        root = pathlib.Path(self.root)
        # The sdist's own copy, else the repository's.
        protos = next((folder for folder in (root / "proto", root.parent.parent / "proto")
                       if (folder / PROTO).is_file()), None)
        if protos is None:
            raise FileNotFoundError(f"no proto/{PROTO} beside {root} or two folders above it")
        if self.target_name == "sdist":
            for name in (PROTO, IMPORTED):
                build_data["force_include"][str(protos / name)] = f"proto/{name}"
            return

        import grpc_tools
        from grpc_tools import protoc

        self.folder = tempfile.TemporaryDirectory(prefix="dla-serve-stubs-")
        out = self.folder.name
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        if protoc.main(["protoc", f"-I{protos}", f"-I{well_known}", f"--python_out={out}",
                        f"--pyi_out={out}", f"--grpc_python_out={out}", PROTO]) != 0:
            raise RuntimeError(f"protoc could not compile {protos / PROTO}")
        key = "force_include_editable" if version == "editable" else "force_include"
        build_data[key] = dict(build_data.get(key, {}))
        for stub in sorted(pathlib.Path(out, "dla/v1").iterdir()):
            build_data[key][str(stub)] = f"dla/v1/{stub.name}"

    def finalize(self, version, build_data, artifact_path):
        if hasattr(self, "folder"):
            self.folder.cleanup()
