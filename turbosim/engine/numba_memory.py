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
    jit,
    jit_cached,
)

RATE_ROUND = (1 << 20) - 1


@jit_cached
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
def _insert(config: Array, state: Array, tile_size: Array, before: Array, after: Array, tile: int, nbytes: int) -> None:
    """Make room for *tile* and insert it; a tile larger than the cache is not kept."""
    capacity = config[L2_CAPACITY]
    head = config[TILES]
    if nbytes > capacity:
        return
    while state[L2_USED] + nbytes > capacity:
        last = before[head]
        after[before[last]] = after[last]
        before[after[last]] = before[last]
        state[L2_USED] -= tile_size[last]
        tile_size[last] = 0
    _link_first(before, after, head, tile)
    tile_size[tile] = nbytes
    state[L2_USED] += nbytes


@jit
def _channels(config: Array, state: Array, channel_free: Array, now: int, address: int, nbytes: int) -> int:
    """Queue a transfer on its memory channels; return its end."""
    channels = len(channel_free)
    interleave = config[INTERLEAVE]
    rate = config[HBM_RATE]
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
        state[HBM_BUSY] += ticks
        last = max(last, served)
        address += part
    return last


@jit
def _through_l2(config: Array, state: Array, nbytes: int, now: int) -> int:
    ticks = (nbytes * config[L2_RATE] + RATE_ROUND) >> 20
    end = max(now, state[L2_FREE]) + ticks
    state[L2_FREE] = end
    state[L2_BUSY] += ticks
    return end


@jit
def read_tile(config: Array, state: Array, tensor_first: Array, tensor_address: Array, tensor_bytes: Array,
              channel_free: Array, tile_size: Array, tile_ready: Array, before: Array, after: Array, tensor: int,
              number: int, nbytes: int, now: int, own_end: int) -> int:
    """Read a tile at *now*, the SM's own units being done at *own_end*.

    Returns twice its arrival, plus one if it waited for device memory.
    """
    tile = tensor_first[tensor] + number
    l2_end = _through_l2(config, state, nbytes, now)
    state[READ] += nbytes
    if tile_size[tile] > 0:
        state[HIT] += nbytes
        _move_first(before, after, config[TILES], tile)
    else:
        state[DRAM_READ] += nbytes
        address = tensor_address[tensor] + number * tensor_bytes[tensor]
        fill = _channels(config, state, channel_free, now, address, nbytes)
        tile_ready[tile] = max(l2_end, fill) + config[DRAM_LATENCY]
        _insert(config, state, tile_size, before, after, tile, nbytes)
    end = max(own_end, l2_end) + config[L2_LATENCY]
    if tile_ready[tile] > end:
        return 2 * tile_ready[tile] + 1
    return 2 * end


@jit
def write_tile(config: Array, state: Array, tensor_first: Array, tensor_address: Array, tensor_bytes: Array,
               channel_free: Array, tile_size: Array, tile_ready: Array, before: Array, after: Array, tensor: int,
               number: int, nbytes: int, now: int, own_end: int) -> int:
    """Write a tile through to device memory; return when it is drained."""
    tile = tensor_first[tensor] + number
    l2_end = _through_l2(config, state, nbytes, now)
    state[WRITE] += nbytes
    state[DRAM_WRITE] += nbytes
    address = tensor_address[tensor] + number * tensor_bytes[tensor]
    drained = _channels(config, state, channel_free, now, address, nbytes)
    if tile_size[tile] > 0:
        _move_first(before, after, config[TILES], tile)
    else:
        _insert(config, state, tile_size, before, after, tile, nbytes)
    tile_ready[tile] = l2_end
    return max(own_end, max(l2_end, drained))
