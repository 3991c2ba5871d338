"""The written order of ties: bookkeeping before turns, turns by actor number."""

from __future__ import annotations

import simpy

from turbosim.engine.simpy_parts import Server, Turn


def test_turns_of_a_tick_go_by_actor_number_after_bookkeeping():
    env = simpy.Environment()
    order = []

    def role(actor):
        yield env.timeout(10)
        yield Turn(env, actor)
        order.append(actor)

    def bookkeeping():
        yield env.timeout(10)
        yield env.timeout(0)
        order.append("bookkeeping")

    for actor in (3, 1, 2):
        env.process(role(actor))
    env.process(bookkeeping())
    env.run()
    assert order == ["bookkeeping", 1, 2, 3]


def test_a_server_is_first_come_first_served_and_back_to_back():
    env = simpy.Environment()
    server = Server(env)
    served = [server.serve(5), server.serve(7), server.serve(1)]
    env.run()
    assert [s.value for s in served] == [(0, 5), (5, 12), (12, 13)]
    assert server.busy == 13
