import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred

with deferred:
    import networkx

    from leakfree.data.groups import linked_groups


def reference(keys):
    """Connected components by networkx, numbered by first appearance."""
    n = len(keys[0])
    graph = networkx.Graph()
    graph.add_nodes_from(range(n))
    for key in keys:
        for i in range(n):
            graph.add_edges_from((i, j) for j in range(i + 1, n) if key[i] == key[j])
    group = [0] * n
    for number, members in enumerate(sorted(networkx.connected_components(graph), key=min)):
        for member in members:
            group[member] = number
    return group


@st.composite
def key_lists(draw):
    n = draw(st.integers(0, 25))
    value = st.text("abcdefgh1", min_size=1, max_size=2)
    return draw(st.lists(st.lists(value, min_size=n, max_size=n), min_size=1, max_size=4))


@settings(deadline=None, max_examples=200, derandomize=True)
@given(key_lists())
def test_agrees_with_connected_components(keys):
    groups = linked_groups(*keys)
    assert groups.dtype == np.int64
    assert groups.tolist() == reference(keys)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(key_lists(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_keys_does_not_matter(keys, random):
    n = len(keys[0])
    order = list(range(n))
    random.shuffle(order)
    shuffled = [[key[i] for i in order] for key in keys]
    random.shuffle(shuffled)
    groups, moved = linked_groups(*keys), linked_groups(*shuffled)
    same = {(groups[i], groups[j]) for i in range(n) for j in range(n)}
    assert len({(groups[order[k]], moved[k]) for k in range(n)}) == len({a for a, _ in same})


def test_links_run_through_a_chain():
    patients = ["a", "a", "b", "b", "c", "d"]
    copies = ["1", "2", "2", "3", "3", "4"]
    assert linked_groups(patients, copies).tolist() == [0, 0, 0, 0, 0, 1]
    assert linked_groups(patients).tolist() == [0, 0, 1, 1, 2, 3]


def test_an_equal_value_of_two_different_keys_is_no_link():
    assert linked_groups(["a", "b"], ["b", "c"]).tolist() == [0, 1]


def test_groups_are_numbered_by_first_appearance():
    assert linked_groups(["z", "a", "z", "m"]).tolist() == [0, 1, 0, 2]


def test_many_images_and_arrays():
    patients = np.array([f"p{i // 3}" for i in range(6000)], dtype=object)
    assert linked_groups(patients, np.arange(6000).astype(str)).max() == 1999


def test_no_key_and_different_lengths_are_refused():
    for keys in ((), (["a"], ["b", "c"])):
        with pytest.raises(ValueError, match="all of one length"):
            linked_groups(*keys)
