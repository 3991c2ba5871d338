"""The compiled engine's tournament tree, L2 cache and memory channels."""

from __future__ import annotations

from turbosim.compiled import jit, jit_cached
from turbosim.engine.lowered import REORDERED, SHARE_SHIFT, WRITE_LOAD
from turbosim.engine.numba_layout import (
    DIRTY_SHARE,
    DRAM_LATENCY,
    DRAM_READ,
    DRAM_WRITE,
    EVICTED,
    FOREIGN,
    FREE_AT,
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
    LAST_USE,
    LOAD_WINDOW,
    LOADED,
    LOADED_AT,
    LOADED_LATENCY,
    READ,
    READ_BEFORE,
    READY,
    RESIDENT,
    TURNAROUND,
    USES_BEGIN,
    USES_END,
    WRITE,
    Array,
)

RATE_ROUND = (1 << 20) - 1


@jit_cached
def renew(tree: Array, leaf: int) -> None:
    """Enter what a leaf has into the nodes above it."""
    node = leaf >> 1
    while node:
        smallest = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == smallest:
            break
        tree[node] = smallest
        node >>= 1


@jit_cached
def set_leaf(tree: Array, leaf: int, key: int) -> None:
    """Give a leaf of the tournament tree a new key; node 1 holds the smallest."""
    tree[leaf] = key
    renew(tree, leaf)


@jit
def _use(state: Array, tiles: Array, uses: Array, tile: int) -> None:
    """Make a resident tile the most recently used: append it to the log, whose earlier entry then counts no more.

    A log touches one line of memory per use, where a linked list touches five.
    """
    end = state[USES_END]
    if end == len(uses):
        begin = state[USES_BEGIN]
        end = 0
        for at in range(begin, len(uses)):
            other = uses[at]
            if tiles[other, LAST_USE] == at and tiles[other, RESIDENT] > 0:
                uses[end] = other
                tiles[other, LAST_USE] = end
                end += 1
        state[USES_BEGIN] = 0
    uses[end] = tile
    tiles[tile, LAST_USE] = end
    state[USES_END] = end + 1


@jit
def _insert(config: Array, state: Array, tiles: Array, uses: Array, tile: int, nbytes: int) -> None:
    """Make room for *tile* and insert it; a tile larger than the cache is not kept."""
    capacity = config[L2_CAPACITY]
    if nbytes > capacity:
        return
    while state[L2_USED] + nbytes > capacity:
        at = state[USES_BEGIN]
        state[USES_BEGIN] = at + 1
        oldest = uses[at]
        if tiles[oldest, LAST_USE] == at:
            state[L2_USED] -= tiles[oldest, RESIDENT]
            tiles[oldest, RESIDENT] = 0
    tiles[tile, RESIDENT] = nbytes
    state[L2_USED] += nbytes
    _use(state, tiles, uses, tile)


@jit
def _load(lanes: Array, channel: int, now: int, window: int, ticks: int) -> int:
    """Return the load of a channel, at most that of one that always works, and add *ticks* to it afterwards."""
    load = lanes[channel, LOADED]
    load -= load * min(now - lanes[channel, LOADED_AT], window) // window
    lanes[channel, LOADED_AT] = now
    lanes[channel, LOADED] = load + ticks
    return min(load, window)


@jit
def _transfer(config: Array, state: Array, lanes: Array, now: int, address: int, nbytes: int, rate: int,
              write: bool) -> int:
    """Queue a transfer on its memory channels, which take *rate* [2**-20 ticks/B] for it; return its end.

    Granule g of row r = g // channels lies in channel (g + 7 r + 3 (r // channels)) mod channels, followed here from
    one granule to the next, since divisions would take most of the time.
    """
    channels = len(lanes)
    interleave = config[INTERLEAVE]
    turnaround = config[TURNAROUND]
    loaded = config[LOADED_LATENCY]
    window = config[LOAD_WINDOW]
    most = REORDERED * interleave
    end = address + nbytes
    granule = address // interleave
    row = granule // channels
    column = granule - row * channels
    turn = row % channels
    channel = (granule + 7 * row + 3 * (row // channels)) % channels
    whole = (interleave * rate + RATE_ROUND) >> 20
    boundary = (granule + 1) * interleave
    last = now
    busy = 0
    while address < end:
        part = min(end, boundary) - address
        ticks = whole if part == interleave else (part * rate + RATE_ROUND) >> 20
        if write:
            matched = min(part, lanes[channel, READ_BEFORE])
            lanes[channel, READ_BEFORE] -= matched
            ticks += (matched * turnaround + RATE_ROUND) >> 20
        else:
            lanes[channel, READ_BEFORE] = min(lanes[channel, READ_BEFORE] + part, most)
        served = max(now, lanes[channel, FREE_AT]) + ticks
        lanes[channel, FREE_AT] = served
        busy += ticks
        if loaded:
            load = _load(lanes, channel, now, window, ticks * WRITE_LOAD if write else ticks)
            if not write:
                served += loaded * load // window * load // window
        last = max(last, served)
        address += part
        boundary += interleave
        channel += 1
        column += 1
        if column == channels:
            column = 0
            channel += 7
            turn += 1
            if turn == channels:
                turn = 0
                channel += 3
        while channel >= channels:
            channel -= channels
    state[HBM_BUSY] += busy
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
              tensor_rate: Array, channels: Array, tiles: Array, uses: Array, tensor: int, number: int, nbytes: int,
              now: int, own_end: int) -> int:
    """Read a tile at *now*, the SM's own units being done at *own_end*.

    Of the lines of before that it displaces, those that are dirty are written to device memory, which nobody waits for.
    Returns twice its arrival, plus one if it waited for device memory.
    """
    tile = tensor_first[tensor] + number
    l2_end = _through_l2(config, state, nbytes, now)
    state[READ] += nbytes
    if tiles[tile, RESIDENT] > 0:
        state[HIT] += nbytes
        _use(state, tiles, uses, tile)
    else:
        state[DRAM_READ] += nbytes
        address = tensor_address[tensor] + number * tensor_bytes[tensor]
        fill = _transfer(config, state, channels, now, address, nbytes, tensor_rate[tensor], False)
        tiles[tile, READY] = max(l2_end, fill) + config[DRAM_LATENCY]
        displaced = min(nbytes, state[FOREIGN])
        state[FOREIGN] -= displaced
        evicted = displaced * config[DIRTY_SHARE] >> SHARE_SHIFT
        if evicted:
            state[EVICTED] += evicted
            _transfer(config, state, channels, now, address, evicted, config[HBM_RATE], True)
        _insert(config, state, tiles, uses, tile, nbytes)
    end = max(own_end, l2_end) + config[L2_LATENCY]
    ready = tiles[tile, READY]
    if ready > end:
        return 2 * ready + 1
    return 2 * end


@jit
def write_tile(config: Array, state: Array, tensor_first: Array, tensor_address: Array, tensor_bytes: Array,
               tensor_rate: Array, channels: Array, tiles: Array, uses: Array, tensor: int, number: int, nbytes: int,
               now: int, own_end: int) -> int:
    """Write a tile through to device memory; return when it is drained.

    It displaces lines of before, too; those that are dirty are written in its stead, and as much of it stays dirty.
    """
    tile = tensor_first[tensor] + number
    l2_end = _through_l2(config, state, nbytes, now)
    state[WRITE] += nbytes
    state[DRAM_WRITE] += nbytes
    address = tensor_address[tensor] + number * tensor_bytes[tensor]
    drained = _transfer(config, state, channels, now, address, nbytes, tensor_rate[tensor], True)
    if tiles[tile, RESIDENT] > 0:
        _use(state, tiles, uses, tile)
    else:
        state[FOREIGN] -= min(nbytes, state[FOREIGN])
        _insert(config, state, tiles, uses, tile, nbytes)
    tiles[tile, READY] = l2_end
    return max(own_end, max(l2_end, drained))
