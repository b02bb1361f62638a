from e2llm_core.training.world import World


def test_the_environment_of_a_launcher_is_read(monkeypatch):
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "GROUP_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    assert World.from_environment() == World(rank=5, size=8, local_rank=1, node_rank=2)


def test_without_a_launcher_there_is_one_worker(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert World.from_environment() == World()
    assert World().sum([0.1, 2.0]) == [0.1, 2.0]
