import errno
import json
import threading
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch

from swarm.checkpoint import Checkpoint, mirror, open_checkpoint, range_client
from swarm.errors import ConfigError

REPO = "people/tiny"


def opened(tmp_path: Path, revision: str | None = None, **more: Any) -> Checkpoint:
    return open_checkpoint(REPO, revision=revision, cache_dir=tmp_path / "cache", **more)


def local(folder: Path, tmp_path: Path) -> Checkpoint:
    return open_checkpoint(str(folder), cache_dir=tmp_path / "cache")


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def header_bytes(folder: Path) -> int:
    return sum(
        8 + int.from_bytes(path.read_bytes()[:8], "little") for path in folder.glob("*.safetensors")
    )


@pytest.fixture(params=["single", "sharded"])
def folder(request: pytest.FixtureRequest, single_folder: Path, sharded_folder: Path) -> Path:
    return single_folder if request.param == "single" else sharded_folder


def test_only_headers_and_the_span_are_downloaded(hub: Any, folder: Path, tmp_path: Path) -> None:
    hub.publish(folder)
    checkpoint = opened(tmp_path)
    assert (checkpoint.name, checkpoint.num_blocks) == (REPO, 5)
    assert hub.weight_bytes() == header_bytes(folder)
    state = checkpoint.load_blocks(2, 4, torch.float32)
    assert_same(state, local(folder, tmp_path).load_blocks(2, 4, torch.float32))
    span_bytes = sum(tensor.nbytes for tensor in state.values())
    assert checkpoint.bytes_read == span_bytes
    assert hub.weight_bytes() == header_bytes(folder) + span_bytes


def test_a_second_time_downloads_nothing(hub: Any, folder: Path, tmp_path: Path) -> None:
    hub.publish(folder)
    first = opened(tmp_path).load_blocks(1, 3, torch.float32)
    served = hub.weight_bytes()
    again = opened(tmp_path)
    assert_same(again.load_blocks(1, 3, torch.float32), first)
    assert hub.weight_bytes() == served
    more = again.load_blocks(2, 4, torch.float32)  # one block is here already
    assert hub.weight_bytes() - served == again.block_bytes
    assert_same(more, local(folder, tmp_path).load_blocks(2, 4, torch.float32))


def test_ends_tokenizer_and_generation_config(
    hub: Any, single_folder: Path, tmp_path: Path
) -> None:
    hub.publish(single_folder)
    checkpoint = opened(tmp_path)
    ends = checkpoint.load_ends(torch.bfloat16)
    assert_same(ends, local(single_folder, tmp_path).load_ends(torch.bfloat16))
    assert checkpoint.tokenizer().encode("sky blue") == [4, 3]
    assert checkpoint.generation_config().eos_token_id == 2
    assert not any(request.endswith("/model.bin") for request in hub.requests)


def test_the_same_weights_have_one_fingerprint_everywhere(
    hub: Any, folder: Path, tmp_path: Path
) -> None:
    hub.publish(folder)
    assert opened(tmp_path).fingerprint == local(folder, tmp_path).fingerprint


def test_two_revisions_have_two_fingerprints(hub: Any, single_folder: Path, tmp_path: Path) -> None:
    hub.publish(single_folder)
    other = copytree(single_folder, tmp_path / "other")
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-2] ^= 0x10
    (other / "model.safetensors").write_bytes(content)
    commit = hub.publish(other, "v2")
    main, second = opened(tmp_path), opened(tmp_path, "v2")
    assert main.fingerprint != second.fingerprint
    assert opened(tmp_path, commit).fingerprint == second.fingerprint
    assert_same(
        second.load_blocks(0, 5, torch.float32),
        local(other, tmp_path).load_blocks(0, 5, torch.float32),
    )


def test_weights_outside_lfs_are_hashed_after_a_download(
    hub: Any, single_folder: Path, tmp_path: Path
) -> None:
    hub.lfs_suffixes = ()
    hub.publish(single_folder)
    size = (single_folder / "model.safetensors").stat().st_size
    assert opened(tmp_path).fingerprint == local(single_folder, tmp_path).fingerprint
    assert hub.weight_bytes() == size
    opened(tmp_path)
    assert hub.weight_bytes() == size


def test_a_dropped_connection_continues_where_it_broke(
    hub: Any, single_folder: Path, tmp_path: Path
) -> None:
    hub.publish(single_folder)
    checkpoint = opened(tmp_path)
    before = hub.weight_bytes()
    hub.drop_after, hub.drops_left = 1000, 3
    state = checkpoint.load_blocks(0, 2, torch.float32)
    assert hub.drops_left == 0
    assert_same(state, local(single_folder, tmp_path).load_blocks(0, 2, torch.float32))
    assert hub.weight_bytes() - before == sum(tensor.nbytes for tensor in state.values())


def test_an_endlessly_dropping_server_is_given_up_and_later_continued(
    hub: Any, single_folder: Path, tmp_path: Path
) -> None:
    hub.publish(single_folder)
    checkpoint = opened(tmp_path)
    before = hub.weight_bytes()
    hub.drop_after, hub.drops_left = 10, 1000
    with pytest.raises(
        ConfigError, match=r"people/tiny/model\.safetensors: download failed 6 times"
    ):
        checkpoint.load_blocks(0, 2, torch.float32)
    assert 1000 - hub.drops_left <= range_client.ATTEMPTS * mirror.PARALLEL
    hub.drops_left = 0
    state = opened(tmp_path).load_blocks(0, 2, torch.float32)
    assert_same(state, local(single_folder, tmp_path).load_blocks(0, 2, torch.float32))
    assert hub.weight_bytes() - before == sum(tensor.nbytes for tensor in state.values())


def test_a_busy_server_is_asked_again(hub: Any, single_folder: Path, tmp_path: Path) -> None:
    hub.publish(single_folder)
    checkpoint = opened(tmp_path)
    hub.busy_answers = 2
    checkpoint.load_blocks(0, 1, torch.float32)
    assert hub.busy_answers == 0


def test_many_pieces_in_parallel_make_one_file(
    hub: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PIECE_BYTES", 1000)
    hub.publish(folder)
    state = opened(tmp_path).load_blocks(0, 5, torch.float32)
    assert_same(state, local(folder, tmp_path).load_blocks(0, 5, torch.float32))
    assert all(end - begin <= 1000 for ranges in weights(hub) for begin, end in ranges)


def weights(hub: Any) -> list[list[tuple[int, int]]]:
    return [ranges for name, ranges in hub.served.items() if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    ("trouble", "complaint"),
    [
        ({"ignore_ranges": True}, "ignores Range requests"),
        ({"refuse_files": 401}, "answered 401: it is gated, private or does not exist"),
        ({"refuse_files": 403}, "answered 403: your account may not read it"),
        ({"refuse_files": 404}, "answered 404: there is no such file"),
        ({"shift_ranges": 4}, "the server sent 'bytes"),
        ({"grow_totals": 1}, "the server sent 'bytes"),
        ({"refuse_files": 500}, "download failed 6 times .* answered 500"),
    ],
)
def test_a_server_in_the_way_names_file_and_reason(
    hub: Any, single_folder: Path, tmp_path: Path, trouble: dict[str, Any], complaint: str
) -> None:
    hub.publish(single_folder)
    checkpoint = opened(tmp_path)
    for key, value in trouble.items():
        setattr(hub, key, value)
    with pytest.raises(ConfigError, match=rf"people/tiny/model\.safetensors: .*{complaint}"):
        checkpoint.load_blocks(0, 1, torch.float32)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_repository_that_is_refused_says_so(hub: Any, tmp_path: Path, status: int) -> None:
    hub.refuse_all = status
    with pytest.raises(ConfigError, match=f"people/tiny: the hub answered {status}"):
        opened(tmp_path)


def test_an_unknown_revision_is_named(hub: Any, single_folder: Path, tmp_path: Path) -> None:
    hub.publish(single_folder)
    with pytest.raises(ConfigError, match=r"people/tiny \(revision v9\): the hub answered 404"):
        opened(tmp_path, "v9")


def test_a_gated_repository_opens_with_the_token(
    hub: Any, single_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(single_folder)
    hub.token = "hf_secret"
    with pytest.raises(ConfigError, match="answered 401"):
        opened(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert opened(tmp_path).load_blocks(0, 1, torch.float32)


def test_without_a_network_what_is_complete_works(
    hub: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(folder)
    first = opened(tmp_path).load_blocks(1, 2, torch.float32)
    requests = len(hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_same(opened(tmp_path).load_blocks(1, 2, torch.float32), first)
    assert len(hub.requests) == requests
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    cut_off = opened(tmp_path)
    assert_same(cut_off.load_blocks(1, 2, torch.float32), first)
    with pytest.raises(ConfigError, match=r"people/tiny/model.*: download failed"):
        cut_off.load_blocks(2, 3, torch.float32)


def test_offline_does_not_download_weights(
    hub: Any, single_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(single_folder)
    opened(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    served = hub.weight_bytes()
    with pytest.raises(ConfigError, match=r"not on this machine yet, and HF_HUB_OFFLINE forbids"):
        opened(tmp_path).load_blocks(0, 1, torch.float32)
    assert hub.weight_bytes() == served


def test_offline_and_unknown_says_so(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ConfigError, match=r"people/tiny: it is not on this machine.*HF_HUB_OFFLINE"
    ):
        opened(tmp_path)


def test_a_complete_hugging_face_cache_is_used(
    hub: Any, single_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_hub_download

    hub.publish(single_folder)
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(REPO, name, endpoint=hub.endpoint)
    served = hub.weight_bytes()
    wanted = local(single_folder, tmp_path).load_blocks(0, 2, torch.float32)
    assert_same(opened(tmp_path).load_blocks(0, 2, torch.float32), wanted)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fresh = open_checkpoint(REPO, cache_dir=tmp_path / "never-used-before")
    assert fresh.name == REPO
    assert_same(fresh.load_blocks(0, 2, torch.float32), wanted)
    assert hub.weight_bytes() == served


def test_pickled_weights_are_refused(hub: Any, single_folder: Path, tmp_path: Path) -> None:
    folder = copytree(single_folder, tmp_path / "old")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.publish(folder)
    with pytest.raises(ConfigError, match=r"people/tiny: .*only pickled \.bin files"):
        opened(tmp_path)


def test_a_full_disk_is_said_before_and_during(
    hub: Any, single_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(single_folder)
    checkpoint = opened(tmp_path)

    def full(self: Any, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mirror.Mirror, "record", full)
        with pytest.raises(ConfigError, match=r"model\.safetensors: .*the disk is full"):
            checkpoint.load_blocks(0, 1, torch.float32)
    with monkeypatch.context() as patch:
        usage = type("Usage", (), {"free": 10})
        patch.setattr(mirror.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ConfigError, match="bytes to download, but only 10 bytes are free"):
            checkpoint.load_blocks(0, 1, torch.float32)
    assert checkpoint.load_blocks(0, 1, torch.float32)


def test_a_damaged_sidecar_or_mirror_is_downloaded_again(
    hub: Any, single_folder: Path, tmp_path: Path
) -> None:
    commit = hub.publish(single_folder)
    wanted = opened(tmp_path).load_blocks(0, 1, torch.float32)
    mirrored = tmp_path / "cache" / REPO / commit / "model.safetensors"
    sidecar = mirrored.with_name("model.safetensors.ranges.json")
    sidecar.write_text(json.dumps({"size": 1, "ranges": [[0, 10**9]]}))
    assert_same(opened(tmp_path).load_blocks(0, 1, torch.float32), wanted)
    mirrored.write_bytes(b"short")
    assert_same(opened(tmp_path).load_blocks(0, 1, torch.float32), wanted)


def test_downloads_at_once_share_one_mirror(
    hub: Any, single_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PIECE_BYTES", 3000)
    hub.publish(single_folder)
    results: dict[int, dict[str, torch.Tensor]] = {}

    def work(start: int) -> None:
        results[start] = opened(tmp_path).load_blocks(start, start + 2, torch.float32)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = local(single_folder, tmp_path)
    for start in (0, 1, 3):
        assert_same(results[start], wanted.load_blocks(start, start + 2, torch.float32))
    served = hub.weight_bytes()
    opened(tmp_path).load_blocks(0, 5, torch.float32)  # every range was recorded
    assert hub.weight_bytes() == served


def test_progress_counts_what_is_downloaded(hub: Any, folder: Path, tmp_path: Path) -> None:
    calls: list[Any] = []

    class Recorder:
        def start(self, total_bytes: int, what: str) -> None:
            calls.append((what, total_bytes))

        def advance(self, n: int) -> None:
            calls.append(n)

        def finish(self) -> None:
            calls.append("finished")

    hub.publish(folder)
    checkpoint = opened(tmp_path, progress=Recorder())
    assert calls == [("asking the hub for people/tiny", 0), "finished"]
    calls.clear()
    state = checkpoint.load_blocks(1, 4, torch.float32)
    total = sum(tensor.nbytes for tensor in state.values())
    assert calls[0] == ("downloading blocks 1:4", total)
    assert sum(calls[1:-1]) == total
    assert calls[-1] == "finished"
    checkpoint.load_blocks(1, 4, torch.float32)
    assert calls[-1] == "finished" and len([c for c in calls if c == "finished"]) == 1


def test_file_names_from_the_hub_cannot_leave_the_cache(
    hub: Any, sharded_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copytree(sharded_folder, tmp_path / "evil")
    index = {"weight_map": {"a": "../../x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.publish(folder)
    answer = hub.answer_info("main")
    answer["siblings"].append({"rfilename": "../../x.safetensors", "size": 3, "blobId": "0"})
    monkeypatch.setattr(hub, "answer_info", lambda revision: answer)
    with pytest.raises(ConfigError, match=r"it names \.\./\.\./x\.safetensors, which is not"):
        opened(tmp_path)


def test_a_redirect_is_followed_and_the_token_stays(
    hub: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(folder)
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.redirect = hub.endpoint.replace("127.0.0.1", "localhost")
    state = opened(tmp_path).load_blocks(1, 3, torch.float32)
    assert_same(state, local(folder, tmp_path).load_blocks(1, 3, torch.float32))
    assert hub.redirected_tokens and set(hub.redirected_tokens) == {None}


def test_a_stopped_download_keeps_what_it_has(
    hub: Any, single_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ctrl:
        def start(self, total_bytes: int, what: str) -> None:
            pass

        def advance(self, n: int) -> None:
            raise KeyboardInterrupt

        def finish(self) -> None:
            pass

    monkeypatch.setattr(mirror, "PIECE_BYTES", 4000)
    hub.publish(single_folder)
    header = header_bytes(single_folder)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, progress=Ctrl()).load_blocks(0, 3, torch.float32)
    commit = hub.commit("main")
    kept = mirror.Mirror(
        tmp_path / "cache" / REPO / commit / "model.safetensors",
        (single_folder / "model.safetensors").stat().st_size,
    ).finished()
    assert sum(end - begin for begin, end in kept) > header
    state = opened(tmp_path).load_blocks(0, 3, torch.float32)
    assert_same(state, local(single_folder, tmp_path).load_blocks(0, 3, torch.float32))
