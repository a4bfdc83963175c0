"""Pictures of a cost: one file each, with ``data`` (what JSON prints) and ``draw`` (from it).

Every ``data`` is a pure function to plain values; every ``draw`` takes them and an axes or a
figure, and decides nothing but looks. matplotlib is imported when something is drawn.
"""
