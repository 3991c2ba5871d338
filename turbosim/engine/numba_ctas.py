"""How the compiled engine deals out the CTAs of a grid to the slots of the SMs."""

from __future__ import annotations

from turbosim.compiled import jit, jit_cached
from turbosim.engine.numba_layout import (
    ACTOR_BITS,
    CTA_LAUNCH,
    CTAS,
    DIMS,
    FREED,
    FREED_AT,
    GRID_SLOTS,
    ISSUED,
    LAST_DONE,
    LAUNCH_REASON,
    LOOP_SLOTS,
    N_STALLS,
    NEXT_CTA,
    OCCUPANCY,
    PARAM_SLOTS,
    ROLES,
    STRIDE,
    Machine,
)
from turbosim.engine.numba_log import log_stall
from turbosim.engine.numba_memory import set_leaf


@jit
def _start_role(m: Machine, actor: int, role: int, cta: int) -> None:
    """Set up the environment and the program counter of a role."""
    cta_class = 0
    rest = cta
    for dim in range(m.config[DIMS]):
        coordinate = rest % m.grid[dim]
        rest //= m.grid[dim]
        m.env[actor, dim] = coordinate
        cta_class += m.class_of[dim, coordinate]
    for i in range(LOOP_SLOTS):
        m.env[actor, GRID_SLOTS + i] = 0
    for i in range(PARAM_SLOTS):
        m.env[actor, GRID_SLOTS + LOOP_SLOTS + i] = m.class_params[cta_class, i]
    m.pc[actor] = m.stream_start[role]
    m.role_cta[actor] = cta


@jit
def next_element(m: Machine, actor: int, role: int) -> bool:
    """Let a role of a persistent CTA go on with the next element of the grid; False if there is none.

    If CTAs take them in turn, the first of the CTA's roles to come here does, and the others follow.
    """
    cta = m.role_cta[actor]
    stride = m.config[STRIDE]
    if stride > 0:
        following = cta + stride if cta + stride < m.config[CTAS] else -1
    else:
        if m.following[cta] == 0:
            m.following[cta] = -1
            if m.state[NEXT_CTA] < m.config[CTAS]:
                m.following[cta] = m.state[NEXT_CTA]
                m.state[NEXT_CTA] += 1
        following = m.following[cta]
    if following < 0:
        return False
    cta_class = 0
    rest = cta
    for dim in range(m.config[DIMS]):
        cta_class += m.class_of[dim, rest % m.grid[dim]]
        rest //= m.grid[dim]
    for counter in range(m.class_signals.shape[1]):
        m.earlier[actor, counter] += m.class_signals[cta_class, counter]
    _start_role(m, actor, role, following)
    return True


@jit
def start_cta(m: Machine, slot: int, cta: int) -> None:
    """Set up a CTA's roles and counters."""
    roles = m.config[ROLES]
    for role in range(roles):
        _start_role(m, slot * roles + role, role, cta)
    for counter in range(m.signals.shape[1]):
        m.signals[slot, counter, ISSUED] = 0
        m.signals[slot, counter, LAST_DONE] = 0


@jit_cached
def first_ctas(m: Machine, sms: int) -> int:
    """Fill the slots, one CTA on every SM, then a second, as the hardware scheduler does; return their number."""
    roles, slots, launch = m.config[ROLES], m.config[OCCUPANCY], m.config[CTA_LAUNCH]
    leaves = len(m.tree) // 2
    started: int = min(sms * slots, m.config[CTAS])
    for cta in range(started):
        place = cta % sms * slots + cta // sms
        m.slot_cta[place] = cta
        m.residents[cta % sms] += 1
        start_cta(m, place, cta)
        for role in range(roles):
            actor = place * roles + role
            set_leaf(m.tree, leaves + actor, (launch << ACTOR_BITS) | actor)
            m.reasons[cta % sms, role, LAUNCH_REASON] += launch
    return started


@jit
def deal(m: Machine) -> bool:
    """Give the next CTAs of the grid to the freed slots, of the SM with the fewest CTAs first.

    Returns False, with nothing done, if their records do not fit.
    """
    state, config = m.state, m.config
    roles, slots, count, now = config[ROLES], config[OCCUPANCY], state[FREED], state[FREED_AT]
    leaves = len(m.tree) >> 1
    wake = now + config[CTA_LAUNCH]
    rows = state[N_STALLS]
    for i in range(count):
        rows += m.recorded[m.sm_of[m.freed[i]]] * roles
    if rows > len(m.stall_log):
        return False
    state[FREED] = 0
    for i in range(count):
        m.residents[m.sm_of[m.freed[i]]] -= 1
    # Each pass gives a CTA to every SM with *level* of them and a freed slot, so that then they have more.
    for level in range(slots):
        for i in range(count):
            slot = m.freed[i]
            if slot < 0:
                continue
            sm = m.sm_of[slot]
            if m.residents[sm] != level:
                continue
            if state[NEXT_CTA] == config[CTAS]:
                return True
            cta = state[NEXT_CTA]
            state[NEXT_CTA] = cta + 1
            m.freed[i] = -1
            m.residents[sm] += 1
            m.slot_cta[slot] = cta
            m.roles_left[slot] = roles
            start_cta(m, slot, cta)
            for role in range(roles):
                actor = slot * roles + role
                m.reasons[sm, role, LAUNCH_REASON] += config[CTA_LAUNCH]
                if m.recorded[sm]:
                    log_stall(m.stall_log, state, sm, slot, role, LAUNCH_REASON, now, wake)
                set_leaf(m.tree, leaves + actor, (wake << ACTOR_BITS) | actor)
    return True
