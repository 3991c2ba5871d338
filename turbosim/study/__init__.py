"""Design points at scale: study files, points, journals and results.

A study file (:func:`~turbosim.study.document.read_study`) becomes a :class:`~turbosim.study.study.Study`; its points
become tasks (``study.task(axes)``), which a :class:`~turbosim.study.session.Session` turns into rows of a journal, in
several processes or on a cluster. :func:`~turbosim.study.results.load_results` reads them.

Columns of a row, in this order:

``point``
    Digest of the values on the axes.
``key``
    Digest of hardware, kernel, workload, way of running and the engine's sources; equal keys are equal simulations.
``status``, ``reason``
    ``ok`` or ``failed``, and why. A failed point has no outcome.
``hw``, ``kernel``
    Name of the GPU; kernel with its options, as the study has it.
every axis under its name
    ``hbm.bandwidth``, ``pipes.sfu.rate``, ``seq``, ``set.block_m``: numbers in SI units, names as text.
derived metrics
    Under their names in the study; empty where one has no value.
outcome
    ``time_s``, ``clock_hz``, ``cycles``, ``flops`` (useful), ``tflops``, ``hbm_bytes``, ``hbm_gbps``, ``l2_bytes``,
    ``l2_hit_rate``, ``compulsory_bytes``, ``roofline_s`` (no schedule is faster), ``intensity`` [FLOP/B of device
    memory], ``bound``, ``ctas_per_sm``, ``occupancy_limit``, ``waves``; ``energy_j`` and ``power_w`` where the GPU's
    file has energies.
what the GPU takes to make
    ``area_mm2``, ``cost_usd``, from :mod:`turbosim.silicon`; empty where its file has no ``die.product``. Constraints
    may read them too.
workload
    ``phase``, ``model``, ``batch``, ``q_heads``, ``kv_heads``, ``seq_q``, ``seq_k``, ``head_dim``, ``causal``, or
    ``m``, ``n``, ``k``, or ``nbytes``.
``util.UNIT``
    Busy share of the unit, 0 to 1: SM units, ``l2``, ``hbm``.
``stall.REASON``
    Share of warp-group time, sums to 1; :func:`turbosim.views.summary.reason_words` has them in words.
``energy.PART``
    Energy [J] by part, sums to ``energy_j``.
``program``, ``wall_s``, ``version``
    Options that the kernel chose; time that the simulation took [s]; digest of the engine's sources.
"""
