"""The compiled engine's tournament tree, L2 cache and memory channels."""

from __future__ import annotations

from turbosim.engine.numba_layout import (
    DRAM_LATENCY,
    DRAM_READ,
    DRAM_WRITE,
    HBM_BUSY,
    HBM_RATE,
    HIT,
    INTERLEAVE,
    L2_BUSY,
    L2_CAPACITY,
    L2_FREE,
    L2_LATENCY,
    L2_RATE,
    L2_USED,
    READ,
    TILES,
    WRITE,
    Array,
    Machine,
    jit,
)

RATE_ROUND = (1 << 20) - 1


@jit
def set_leaf(tree: Array, leaf: int, key: int) -> None:
    """Give a leaf of the tournament tree a new key; node 1 holds the smallest."""
    tree[leaf] = key
    node = leaf >> 1
    while node:
        smallest = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == smallest:
            break
        tree[node] = smallest
        node >>= 1


@jit
def _move_first(before: Array, after: Array, head: int, tile: int) -> None:
    """Make a resident tile the most recently used."""
    after[before[tile]] = after[tile]
    before[after[tile]] = before[tile]
    _link_first(before, after, head, tile)


@jit
def _link_first(before: Array, after: Array, head: int, tile: int) -> None:
    first = after[head]
    after[head] = tile
    before[tile] = head
    after[tile] = first
    before[first] = tile


@jit
def _insert(m: Machine, tile: int, nbytes: int) -> None:
    """Make room for *tile* and insert it; a tile larger than the cache is not kept."""
    capacity = m.config[L2_CAPACITY]
    head = m.config[TILES]
    if nbytes > capacity:
        return
    while m.state[L2_USED] + nbytes > capacity:
        last = m.before[head]
        m.after[m.before[last]] = m.after[last]
        m.before[m.after[last]] = m.before[last]
        m.state[L2_USED] -= m.tile_size[last]
        m.tile_size[last] = 0
    _link_first(m.before, m.after, head, tile)
    m.tile_size[tile] = nbytes
    m.state[L2_USED] += nbytes


@jit
def _channels(m: Machine, now: int, address: int, nbytes: int) -> int:
    """Queue a transfer on its memory channels; return its end."""
    channel_free = m.channel_free
    channels = len(channel_free)
    interleave = m.config[INTERLEAVE]
    rate = m.config[HBM_RATE]
    end = address + nbytes
    last = now
    while address < end:
        granule = address // interleave
        part = min(end, (granule + 1) * interleave) - address
        row = granule // channels
        channel = (granule + 7 * row + 3 * (row // channels)) % channels
        ticks = (part * rate + RATE_ROUND) >> 20
        served = max(now, channel_free[channel]) + ticks
        channel_free[channel] = served
        m.state[HBM_BUSY] += ticks
        last = max(last, served)
        address += part
    return last


@jit
def _through_l2(m: Machine, nbytes: int, now: int) -> int:
    ticks = (nbytes * m.config[L2_RATE] + RATE_ROUND) >> 20
    end = max(now, m.state[L2_FREE]) + ticks
    m.state[L2_FREE] = end
    m.state[L2_BUSY] += ticks
    return end


@jit
def read_tile(m: Machine, tensor: int, number: int, nbytes: int, now: int, own_end: int) -> int:
    """Read a tile at *now*, the SM's own units being done at *own_end*.

    Returns twice its arrival, plus one if it waited for device memory.
    """
    tile = m.tensor_first[tensor] + number
    l2_end = _through_l2(m, nbytes, now)
    m.state[READ] += nbytes
    if m.tile_size[tile] > 0:
        m.state[HIT] += nbytes
        _move_first(m.before, m.after, m.config[TILES], tile)
    else:
        m.state[DRAM_READ] += nbytes
        fill = _channels(m, now, m.tensor_address[tensor] + number * m.tensor_bytes[tensor], nbytes)
        m.tile_ready[tile] = max(l2_end, fill) + m.config[DRAM_LATENCY]
        _insert(m, tile, nbytes)
    end = max(own_end, l2_end) + m.config[L2_LATENCY]
    if m.tile_ready[tile] > end:
        return 2 * m.tile_ready[tile] + 1
    return 2 * end


@jit
def write_tile(m: Machine, tensor: int, number: int, nbytes: int, now: int, own_end: int) -> int:
    """Write a tile through to device memory; return when it is drained."""
    tile = m.tensor_first[tensor] + number
    l2_end = _through_l2(m, nbytes, now)
    m.state[WRITE] += nbytes
    m.state[DRAM_WRITE] += nbytes
    drained = _channels(m, now, m.tensor_address[tensor] + number * m.tensor_bytes[tensor], nbytes)
    if m.tile_size[tile] > 0:
        _move_first(m.before, m.after, m.config[TILES], tile)
    else:
        _insert(m, tile, nbytes)
    m.tile_ready[tile] = l2_end
    return max(own_end, max(l2_end, drained))
