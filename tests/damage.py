"""Random damage to files, for tests of those that read them."""


def flip_bits(rng, content):
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 8))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def truncate(rng, content):
    return content[: rng.randrange(len(content) + 1)]


def splice(rng, content):
    start, stop = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    middle = rng.choice((b"", rng.randbytes(16), content[start:stop] * 2))
    return content[:start] + middle + content[stop:]


def mutate_json(rng, value):
    """Replace a random part of parsed json by something else."""
    wrong = (None, True, -1, 10**400, 1e308, float("inf"), "", "../x", [], [[]], {}, {"a": 1}, 3)
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: mutate_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        position = rng.randrange(len(value))
        return [*value[:position], mutate_json(rng, value[position]), *value[position + 1 :]]
    return rng.choice(wrong)
