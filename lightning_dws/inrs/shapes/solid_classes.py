"""Parametric solids by class: furniture and machine parts, each with proportions of its own.

Classes overlap on purpose: a stool may have a low back, a bench is a long stool or a chair for
two, a desk a table with a panel or a drawer, a bracket a shelf with one board.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lightning_dws.inrs.shapes.solid_parts import box, lathe, prism, rod, sweep, union, without

if TYPE_CHECKING:
    from trimesh import Trimesh

Generator = np.random.Generator
Build = Callable[[Generator], "Trimesh"]


def _legs(
    random: Generator, width: float, depth: float, height: float, thickness: float
) -> list["Trimesh"]:
    """Four legs under a board of half sizes width and depth, square or round, maybe splayed."""
    round_legs, splay = random.random() < 0.5, random.choice([0.0, 0.12])
    legs = []
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        top = np.array([x * (width - thickness), y * (depth - thickness), height])
        foot = top * [1 + splay, 1 + splay, 0]
        if round_legs or splay:
            legs.append(rod(foot, top, thickness, 16 if round_legs else 4))
        else:
            side = np.array([thickness, thickness, 0])
            legs.append(box(foot - side, top + side))
    return legs


def _board(width: float, depth: float, low: float, high: float) -> "Trimesh":
    return box([-width, -depth, low], [width, depth, high])


def _back(
    random: Generator, width: float, depth: float, low: float, high: float
) -> list["Trimesh"]:
    """A back behind a seat: a panel, or bars between posts."""
    thick = random.uniform(0.03, 0.06)
    if random.random() < 0.5:
        return [box([-width, depth - 2 * thick, low], [width, depth, high])]
    posts = [
        rod([x, depth - thick, low], [x, depth - thick, high], thick)
        for x in (-width + thick, width - thick)
    ]
    bars = np.linspace(low + 0.45 * (high - low), high - thick, random.integers(2, 4))
    return posts + [
        rod([-width, depth - thick, z], [width, depth - thick, z], 0.8 * thick) for z in bars
    ]


def chair(random: Generator) -> "Trimesh":
    """Seat, legs and a back; sometimes arms."""
    width, depth = random.uniform(0.25, 0.4), random.uniform(0.25, 0.38)
    height, thick = random.uniform(0.35, 0.55), random.uniform(0.03, 0.07)
    parts = [_board(width, depth, height, height + 2 * thick)]
    parts += _legs(random, width, depth, height + thick, random.uniform(0.03, 0.055))
    parts += _back(random, width, depth, height, height + random.uniform(0.25, 0.7))
    if random.random() < 0.3:
        arm = height + random.uniform(0.2, 0.3)
        for x in (-width, width):
            parts.append(box([x - 0.035, -depth, arm], [x + 0.035, depth, arm + 0.06]))
            parts.append(box([x - 0.03, -depth, height], [x + 0.03, -depth + 0.07, arm + 0.03]))
    return union(parts)


def stool(random: Generator) -> "Trimesh":
    """A round or square seat on legs; sometimes a low back."""
    width, height = random.uniform(0.2, 0.38), random.uniform(0.4, 0.8)
    thick = random.uniform(0.03, 0.08)
    if random.random() < 0.5:
        seat = rod([0, 0, height], [0, 0, height + 2 * thick], 1.15 * width)
    else:
        seat = _board(width, width, height, height + 2 * thick)
    parts = [
        seat,
        *_legs(random, 0.8 * width, 0.8 * width, height + thick, random.uniform(0.03, 0.05)),
    ]
    if random.random() < 0.3:
        parts += _back(
            random, 0.9 * width, 0.9 * width, height, height + random.uniform(0.15, 0.35)
        )
    return union(parts)


def table(random: Generator) -> "Trimesh":
    """A top on four legs or a column."""
    width, depth = random.uniform(0.4, 0.8), random.uniform(0.35, 0.5)
    height, thick = random.uniform(0.4, 0.75), random.uniform(0.03, 0.06)
    if random.random() < 0.3:
        top = rod([0, 0, height], [0, 0, height + 2 * thick], depth)
        foot = rod([0, 0, 0], [0, 0, 2 * thick], 0.6 * depth)
        return union(
            [top, foot, rod([0, 0, 0], [0, 0, height + thick], random.uniform(0.05, 0.09))]
        )
    top = _board(width, depth, height, height + 2 * thick)
    return union([top, *_legs(random, width, depth, height + thick, random.uniform(0.035, 0.06))])


def desk(random: Generator) -> "Trimesh":
    """A table with side panels, drawers on one side, or a panel behind."""
    width, depth = random.uniform(0.5, 0.8), random.uniform(0.3, 0.45)
    height, thick = random.uniform(0.5, 0.75), random.uniform(0.025, 0.05)
    parts = [_board(width, depth, height, height + 2 * thick)]
    kind = random.integers(3)
    if kind == 0:
        parts += _legs(random, width, depth, height + thick, random.uniform(0.035, 0.05))
        parts.append(box([-width, depth - 2 * thick, 0.4 * height], [width, depth, height + thick]))
    else:
        side = 2 * thick if kind == 1 else random.uniform(0.25, 0.4)
        parts.append(box([-width, -depth, 0], [-width + side, depth, height + thick]))
        parts.append(box([width - 2 * thick, -depth, 0], [width, depth, height + thick]))
    return union(parts)


def bench(random: Generator) -> "Trimesh":
    """A long seat; sometimes with a back."""
    width, depth = random.uniform(0.45, 0.9), random.uniform(0.2, 0.32)
    height, thick = random.uniform(0.3, 0.5), random.uniform(0.03, 0.06)
    parts = [_board(width, depth, height, height + 2 * thick)]
    if random.random() < 0.5:
        parts += _legs(random, width, depth, height + thick, random.uniform(0.035, 0.06))
    else:
        for x in (-0.8 * width, 0.8 * width):
            parts.append(
                box([x - 1.5 * thick, -depth, 0], [x + 1.5 * thick, depth, height + thick])
            )
    if random.random() < 0.5:
        parts += _back(random, width, depth, height, height + random.uniform(0.2, 0.45))
    return union(parts)


def shelf(random: Generator) -> "Trimesh":
    """Boards between two sides; sometimes a back."""
    width, depth = random.uniform(0.25, 0.5), random.uniform(0.14, 0.25)
    height, thick = random.uniform(0.7, 1.4), random.uniform(0.025, 0.04)
    parts = [box([x - thick, -depth, 0], [x + thick, depth, height]) for x in (-width, width)]
    for z in np.linspace(thick, height - thick, random.integers(3, 6)):
        parts.append(_board(width, depth, z - thick, z + thick))
    if random.random() < 0.4:
        parts.append(box([-width, depth - 2 * thick, 0], [width, depth, height]))
    return union(parts)


def bed(random: Generator) -> "Trimesh":
    """A mattress on a frame, a head board, sometimes a foot board and pillows."""
    width, depth = random.uniform(0.3, 0.6), random.uniform(0.65, 0.8)
    height, thick = random.uniform(0.15, 0.3), random.uniform(0.08, 0.14)
    parts = [_board(width, depth, height, height + thick)]
    parts += _legs(random, width, depth, height + 0.02, random.uniform(0.035, 0.06))
    head = height + thick + random.uniform(0.15, 0.45)
    parts.append(box([-width, depth - 0.07, 0.5 * height], [width, depth, head]))
    if random.random() < 0.5:
        parts.append(
            box([-width, -depth, 0.5 * height], [width, 0.07 - depth, height + thick + 0.1])
        )
    if random.random() < 0.6:
        low = height + 0.8 * thick
        parts.append(box([-0.8 * width, 0.6 * depth, low], [0.8 * width, 0.88 * depth, low + 0.12]))
    return union(parts)


def lamp(random: Generator) -> "Trimesh":
    """A shade on a pole on a foot."""
    height, pole = random.uniform(0.6, 1.3), random.uniform(0.035, 0.06)
    foot, shade = random.uniform(0.18, 0.35), random.uniform(0.2, 0.4)
    deep, top = random.uniform(0.2, 0.4), random.uniform(0.4, 1.0) * shade
    profile = [
        (0, height - 0.06),
        (shade, height - deep / 2),
        (top, height + deep / 2),
        (0, height + deep / 2),
    ]
    thick = random.uniform(0.04, 0.08)
    return union(
        [rod([0, 0, 0], [0, 0, thick], foot), rod([0, 0, 0], [0, 0, height], pole), lathe(profile)]
    )


def vase(random: Generator) -> "Trimesh":
    """A hollow body of revolution: bottles, bowls, vases; sometimes a handle."""
    height, belly = random.uniform(0.6, 1.2), random.uniform(0.22, 0.42)
    neck, foot, mouth = (
        random.uniform(0.08, 0.3),
        random.uniform(0.12, 0.3),
        random.uniform(0.1, 0.35),
    )
    wall = random.uniform(0.05, 0.07)
    heights = np.array([0, 0.3, 0.7, 1.0]) * height
    fine = np.linspace(0, height, 16)
    radii = np.interp(fine, heights, [foot, belly, neck, mouth])
    radii = np.convolve(np.pad(radii, 2, mode="edge"), np.ones(5) / 5, mode="valid").clip(min=0.1)
    outside = [(0.0, 0.0), *zip(radii, fine, strict=True)]
    inside = [(r - wall, z) for r, z in zip(radii, fine, strict=True) if z > 2 * wall]
    body = lathe([*outside, *reversed(inside), (0.0, inside[0][1])])
    if random.random() < 0.3:
        angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
        reach = 0.2 * height
        path = np.stack([np.cos(angle) * reach, 0 * angle, np.sin(angle) * reach], 1)
        handle = sweep(path + np.array([0.85 * radii[8], 0, 0.5 * height]), 0.045)
        inner = lathe([(0.0, inside[0][1]), *inside, (0.0, inside[-1][1])])
        return without(union([body, handle]), [inner])
    return body


def gear(random: Generator) -> "Trimesh":
    """A toothed wheel with a hole; sometimes a hub."""
    teeth, radius = int(random.integers(8, 17)), random.uniform(0.5, 0.7)
    deep, thick = random.uniform(0.1, 0.18), random.uniform(0.08, 0.25)
    angle = np.linspace(0, 2 * np.pi, 4 * teeth, endpoint=False)
    radii = radius + deep * np.tile([0.0, 0.0, 1.0, 1.0], teeth)
    outline = radii[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    hole = random.uniform(0.1, 0.25)
    parts = [prism(outline, -thick, thick)]
    if random.random() < 0.5:
        parts.append(rod([0, 0, -thick], [0, 0, thick + random.uniform(0.1, 0.3)], hole + 0.12))
    return without(union(parts), [rod([0, 0, -1], [0, 0, 1], hole)])


def wheel(random: Generator) -> "Trimesh":
    """A rim with spokes and a hub, or a disc with holes."""
    radius, thick = random.uniform(0.55, 0.75), random.uniform(0.06, 0.15)
    hub, count = random.uniform(0.12, 0.2), int(random.integers(3, 7))
    rim = without(
        rod([0, 0, -thick], [0, 0, thick], radius, 40),
        [rod([0, 0, -1], [0, 0, 1], radius - random.uniform(0.1, 0.16), 40)],
    )
    parts = [rim, rod([0, 0, -1.3 * thick], [0, 0, 1.3 * thick], hub)]
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        end = 0.95 * radius * np.array([np.cos(angle), np.sin(angle), 0])
        parts.append(rod([0, 0, 0], end, random.uniform(0.04, 0.06), 12))
    return union(parts)


def pipe(random: Generator) -> "Trimesh":
    """A hollow elbow or straight pipe; sometimes with flanges."""
    radius, wall = random.uniform(0.14, 0.24), random.uniform(0.05, 0.07)
    bend = random.choice([0.3, np.pi / 2, np.pi / 2, np.pi])
    turn = random.uniform(0.4, 0.7)
    angle = np.linspace(0, bend, 16)
    path = np.stack([turn * (1 - np.cos(angle)), 0 * angle, turn * np.sin(angle)], 1)
    ends = [path[0] - [0, 0, random.uniform(0.1, 0.5)], path[-1]]
    ahead = path[-1] - path[-2]
    ends[1] = path[-1] + ahead / np.linalg.norm(ahead) * random.uniform(0.1, 0.5)
    path = np.concatenate([ends[:1], path, ends[1:]])
    parts = [sweep(path, radius)]
    if random.random() < 0.5:
        for end, inner in ((path[0], path[1]), (path[-1], path[-2])):
            along = (inner - end) / np.linalg.norm(inner - end)
            parts.append(rod(end, end + 0.09 * along, radius + 0.1))
    longer = np.concatenate([path[:1] * 2 - path[1:2], path, path[-1:] * 2 - path[-2:-1]])
    return without(union(parts), [sweep(longer, radius - wall)])


def bolt(random: Generator) -> "Trimesh":
    """A head on a shaft, sometimes with grooves for a thread and a washer."""
    shaft, length = random.uniform(0.1, 0.2), random.uniform(0.6, 1.2)
    head, high = shaft + random.uniform(0.08, 0.2), random.uniform(0.12, 0.25)
    sections = int(random.choice([4, 6, 6, 24]))
    parts = [
        rod([0, 0, 0], [0, 0, high], head, sections),
        rod([0, 0, -length], [0, 0, high / 2], shaft),
    ]
    if random.random() < 0.5:
        for z in np.arange(-length + 0.05, -0.4 * length, 0.12):
            parts.append(rod([0, 0, z], [0, 0, z + 0.06], shaft + 0.04))
    if random.random() < 0.3:
        parts.append(rod([0, 0, -0.08], [0, 0, 0.02], head + 0.08))
    return union(parts)


def bracket(random: Generator) -> "Trimesh":
    """Two plates at a right angle, with holes or a rib."""
    width, thick = random.uniform(0.15, 0.4), random.uniform(0.05, 0.09)
    across, up = random.uniform(0.4, 0.9), random.uniform(0.4, 0.9)
    plates = [
        box([0, -width, 0], [across, width, 2 * thick]),
        box([0, -width, 0], [2 * thick, width, up]),
    ]
    if random.random() < 0.5:
        reach = 0.8 * min(across, up)
        plates.append(rod([reach, 0, thick], [thick, 0, reach], 0.6 * thick, 12))
    solid = union(plates)
    hole = random.uniform(0.06, 0.5 * width)
    holes = [rod([0.65 * across, 0, -1], [0.65 * across, 0, 1], hole)]
    if random.random() < 0.5:
        holes.append(rod([-1, 0, 0.65 * up], [1, 0, 0.65 * up], hole))
    return without(solid, holes) if random.random() < 0.7 else solid


BUILDERS: dict[str, Build] = {
    build.__name__: build
    for build in (
        bed,
        bench,
        bolt,
        bracket,
        chair,
        desk,
        gear,
        lamp,
        pipe,
        shelf,
        stool,
        table,
        vase,
        wheel,
    )
}
"""Of each class, by its name: a closed mesh from a random generator, upright and facing -y."""
