#!/usr/bin/env bash
# trimesh reads an OFF file with a comment behind its counts as another mesh, without a word.
#
# Guess, written down before it was run: OFF allows `#` comments anywhere, and trimesh strips them,
# so the two files below, which differ by one comment, give the same tetrahedron in the unit cube.
#
# Seen with trimesh 5.2.0, numpy 2.4.6 on Python 3.11: the file with the comment has a first vertex
# (4, 4, 6), which is the line of counts; the last vertex and the last face are gone, and every index
# points to another corner, so that the area is 12.711 for 2.366. No exception, no warning, also with
# warnings as errors. Meshes in the wild have such comments: 2 of the 139 OFF files of Debian's
# libcgal-demo.
#
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet trimesh==5.2.0 numpy==2.4.6
cat > "$folder/plain.off" <<'END'
OFF
4 4 6
0 0 0
1 0 0
0 1 0
0 0 1
3 0 2 1
3 0 1 3
3 0 3 2
3 1 2 3
END
sed 's/^4 4 6$/4 4 6 # vertices faces edges/' "$folder/plain.off" > "$folder/comment.off"
"$folder/venv/bin/python" -W error - "$folder" <<'PYTHON'
import sys

import trimesh

plain, comment = (
    trimesh.load(f"{sys.argv[1]}/{name}.off", process=False) for name in ("plain", "comment")
)
print("trimesh", trimesh.__version__)
for name, mesh in (("plain", plain), ("comment", comment)):
    print(name, mesh.vertices.tolist(), mesh.faces.tolist(), f"area {mesh.area:.3f}")
assert plain.vertices.max() == 1
assert plain.vertices.tolist()[3] == [0, 0, 1]
assert comment.vertices.tolist()[0] == [4, 4, 6], "the behaviour has changed"
assert len(comment.faces) == 3, "the behaviour has changed"
assert [0, 0, 1] not in comment.vertices.tolist(), "the behaviour has changed"
print("as stated: the line of counts became a vertex")
PYTHON
