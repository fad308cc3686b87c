"""What computing costs: meters over made-up machines, and what is made of what they tell."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.energy import apportion, metering
from swarm.energy.account import WINDOW, Account
from swarm.energy.apple import CPU, GPU, Apple
from swarm.energy.estimate import Estimate
from swarm.energy.hwmon import Hwmon
from swarm.energy.meter import Source, Spent, Usage
from swarm.energy.metering import Clocks, Metering, Work
from swarm.energy.nvml import Nvml
from swarm.energy.rapl import Rapl
from swarm.energy.search import Device, Places, find

BUSY = Usage(seconds=1.0, cpu_seconds=2.0, busy_seconds=4.0, computing_seconds=0.5, cores=8)
"""Half of what is done here is ours."""


class Tree:
    """A made-up /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: object) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
        return file

    def zone(self, name: str, kind: str, microjoules: int, span: int = 1000_000_000) -> Path:
        folder = f"class/powercap/{name}"
        self.write(f"{folder}/name", kind)
        self.write(f"{folder}/max_energy_range_uj", span)
        return self.write(f"{folder}/energy_uj", microjoules)

    def card(self, number: int, driver: str, pci: str, **sensors: int) -> None:
        folder = self.root / f"class/hwmon/hwmon{number}"
        (self.root / "devices" / pci).mkdir(parents=True)
        self.write(f"class/hwmon/hwmon{number}/name", driver)
        folder.joinpath("device").symlink_to(self.root / "devices" / pci)
        for name, value in sensors.items():
            self.write(f"class/hwmon/hwmon{number}/{name}", value)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# Policy


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**7))
def test_a_counter_that_wraps_has_gone_on(before: int, more: int, span: int) -> None:
    before, more = before % span, more % span
    assert apportion.risen(before, (before + more) % span, span) == more


def test_a_counter_that_was_reset_gives_nothing() -> None:
    assert apportion.risen(10_000, 5, 0) == 0
    # After sleep a counter with a range seems to have wrapped.
    assert apportion.plausible(apportion.risen(10_000, 5, 262_143_328_850) / 1e6, 2.0) == 0


def test_the_processors_energy_goes_by_time() -> None:
    assert apportion.of_cpu(100.0, BUSY) == Spent(100.0, 50.0)


def test_what_a_waiting_machine_draws_is_nobodys() -> None:
    usage = Usage(seconds=10.0, cpu_seconds=0.1, busy_seconds=0.2, cores=8)
    assert apportion.of_cpu(100.0, usage).ours == pytest.approx(1.0)


def test_more_than_all_is_never_ours() -> None:
    """The two clocks are not read at the same moment."""
    usage = Usage(seconds=1.0, cpu_seconds=8.1, busy_seconds=8.0, cores=8)
    assert apportion.of_cpu(100.0, usage).ours == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("loads", "ours"),
    [
        ({1: None}, 90.0),
        ({}, 90.0),
        ({1: 60.0, 2: 30.0}, 60.0),
        ({1: None, 2: None}, 45.0),
        ({1: None, 2: 30.0, 3: None}, 30.0),
        ({1: 0.0, 2: 0.0}, 45.0),
    ],
)
def test_a_cards_energy_goes_by_load(loads: dict[int, float | None], ours: float) -> None:
    assert apportion.of_card(90.0, 1, loads).ours == pytest.approx(ours)


def test_an_estimate_goes_by_what_the_owner_says() -> None:
    assert Estimate().spent(BUSY).ours == pytest.approx(2 * apportion.CORE_WATTS)
    assert Estimate(watts=80.0).spent(BUSY).ours == pytest.approx(80 * 2 / 8)
    assert Estimate(card=True).spent(BUSY).ours == pytest.approx(apportion.CARD_WATTS / 2)
    assert Estimate(watts=300.0, card=True).spent(BUSY).ours == pytest.approx(150)


# The account


def _note(account: Account, seconds: float, joules: float, num_positions: int) -> None:
    account.note(seconds, [(Source.RAPL, Spent(2 * joules, joules))], num_positions)


def test_positions_cost_what_is_spent_while_there_are_any() -> None:
    account = Account()
    _note(account, 2.0, 40.0, 10)
    _note(account, 2.0, 30.0, 0)
    assert account.per_position == 4.0
    assert account.watts == 17.5
    assert account.joules == {Source.RAPL: 70.0} and account.machine_joules == {Source.RAPL: 140.0}


def test_what_was_long_ago_counts_no_more() -> None:
    account = Account()
    _note(account, 2.0, 1000.0, 1)
    for _ in range(int(WINDOW / 2) + 1):
        _note(account, 2.0, 10.0, 5)
    assert account.per_position == 2.0
    for _ in range(int(WINDOW)):
        _note(account, 2.0, 0.0, 0)
    assert account.per_position == 2.0, "without any position it is what it was"
    assert account.watts == 0.0


# Meters


def test_rapl_sums_packages_and_memory_once(tree: Tree) -> None:
    package = tree.zone("intel-rapl:0", "package-0", 1_000_000)
    tree.zone("intel-rapl:0:0", "core", 5)
    memory = tree.zone("intel-rapl:0:1", "dram", 0)
    platform = tree.zone("intel-rapl:1", "psys", 7)
    rapl = Rapl(tree.root)
    package.write_text("61000000\n")
    memory.write_text("20000000\n")
    platform.write_text("999000000\n")
    assert rapl.spent(BUSY) == Spent(80.0, 40.0)
    assert rapl.spent(BUSY) == Spent(0.0, 0.0), "it tells what is new"


def test_rapl_goes_on_where_it_wraps(tree: Tree) -> None:
    package = tree.zone("intel-rapl:0", "package-0", 999_000_000)
    rapl = Rapl(tree.root)
    package.write_text("1000000\n")
    assert rapl.spent(BUSY) == Spent(2.0, 1.0)


@pytest.mark.parametrize("broken", ["gone", "odd"])
def test_rapl_ends_with_its_counters(tree: Tree, broken: str) -> None:
    package = tree.zone("intel-rapl:0", "package-0", 0)
    rapl = Rapl(tree.root)
    package.unlink() if broken == "gone" else package.write_text("no number\n")
    assert rapl.spent(BUSY) is None


def test_who_may_not_read_is_told_what_to_do(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tree.zone("intel-rapl:0", "package-0", 0)
    read = Path.read_text

    def refuse(path: Path, *args: Any) -> str:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return read(path, *args)

    # The tests may run as root, who may read everything.
    monkeypatch.setattr(Path, "read_text", refuse)
    found = find(Device(), places=Places(tree.root))
    assert [meter.source for meter in found.meters] == [Source.ESTIMATE]
    (advice,) = found.advice
    assert "chmod o+r" in advice


def test_a_machine_that_tells_nothing_is_estimated(tree: Tree) -> None:
    found = find(Device(), 100.0, Places(tree.root))
    assert found.meters == (Estimate(100.0),) and not found.advice


def test_amd_cards_tell_their_power(tree: Tree) -> None:
    tree.card(0, "k10temp", "0000:00:18.3", power1_input=1)
    tree.card(1, "amdgpu", "0000:03:00.0", power1_average=100_000_000)
    (meter,) = find(Device("rocm"), places=Places(tree.root)).meters
    assert meter.source is Source.HWMON
    tree.write("class/hwmon/hwmon1/power1_average", 200_000_000)
    assert meter.spent(BUSY) == Spent(150.0, 150.0)
    (tree.root / "class/hwmon/hwmon1/power1_average").unlink()
    assert meter.spent(BUSY) is None


def test_of_several_cards_the_right_one_is_read(tree: Tree) -> None:
    tree.card(0, "amdgpu", "0000:03:00.0", power1_average=1)
    tree.card(1, "xe", "0000:04:00.0", energy1_input=5_000_000, power1_input=3)
    card = Hwmon("0000:04:00.0", tree.root)
    tree.write("class/hwmon/hwmon1/energy1_input", 12_000_000)
    assert card.spent(BUSY) == Spent(7.0, 7.0)
    with pytest.raises(OSError):
        Hwmon("", tree.root)


class FakeNvml(ModuleType):
    """Like `pynvml`, with one card."""

    class NVMLError(Exception):
        """Anything that goes wrong."""

    class NVMLError_NotSupported(NVMLError):
        """What this card cannot do."""

    def __init__(self, energy: int | None = 0, power: int = 0) -> None:
        super().__init__("pynvml")
        self.energy, self.power = energy, power
        self.users: dict[int, int] = {os.getpid(): 50}
        self.driver = True

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-1":
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, card: str) -> int:
        self.nvmlInit()
        if self.energy is None:
            raise self.NVMLError_NotSupported("Not Supported")
        return self.energy

    def nvmlDeviceGetPowerUsage(self, card: str) -> int:
        return self.power

    def nvmlDeviceGetComputeRunningProcesses(self, card: str) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.users]

    def nvmlDeviceGetProcessUtilization(self, card: str, since: int) -> list[Any]:
        return [
            SimpleNamespace(pid=pid, smUtil=load, timeStamp=since + 1)
            for pid, load in self.users.items()
        ]


def test_nvidias_counter_is_ours_while_we_are_alone(tree: Tree) -> None:
    library = FakeNvml(energy=1_000)
    (meter,) = find(Device("cuda", "GPU-1"), places=Places(tree.root, library)).meters
    library.energy = 251_000
    assert meter.source is Source.NVML and meter.spent(BUSY) == Spent(250.0, 250.0)
    library.energy, library.users = 551_000, {os.getpid(): 20, 1: 80}
    assert meter.spent(BUSY) == Spent(300.0, 60.0)


def test_an_old_card_of_nvidia_tells_its_power() -> None:
    library = FakeNvml(energy=None, power=100_000)
    meter = Nvml("GPU-1", library)
    library.power = 140_000
    assert meter.spent(Usage(2.0, 1.0, 1.0)) == Spent(240.0, 240.0)


def test_without_a_driver_a_card_is_estimated(tree: Tree) -> None:
    library = FakeNvml()
    library.driver = False
    tree.zone("intel-rapl:0", "package-0", 0)
    found = find(Device("cuda", "GPU-1"), places=Places(tree.root, library))
    # The processor beside it would say that a card costs nothing.
    assert found.meters == (Estimate(card=True),)


def test_without_the_library_a_card_is_estimated(tree: Tree) -> None:
    """What is installed here finds no driver; what is not is the same."""
    found = find(Device("cuda", "GPU-none"), places=Places(tree.root))
    assert [meter.source for meter in found.meters] == [Source.ESTIMATE]


def test_a_card_and_the_processor_beside_it_are_both_read(tree: Tree) -> None:
    tree.zone("intel-rapl:0", "package-0", 0)
    found = find(Device("cuda", "GPU-1"), places=Places(tree.root, FakeNvml()))
    assert [meter.source for meter in found.meters] == [Source.NVML, Source.RAPL]


class FakeMonitor:
    """Like `zeus_apple_silicon.AppleEnergyMonitor`."""

    def __init__(self, **parts: int | None) -> None:
        self.parts = parts

    def get_cumulative_energy(self) -> Any:
        names = (*CPU, *GPU, "ane_mj")
        return SimpleNamespace(**{name: self.parts.get(name) for name in names})


def test_apples_chips_tell_their_parts(tree: Tree) -> None:
    monitor = FakeMonitor(cpu_total_mj=1_000, dram_mj=None, gpu_mj=5_000, gpu_sram_mj=100)
    found = find(Device("mps"), places=Places(tree.root, apple=monitor))
    assert [meter.source for meter in found.meters] == [Source.APPLE] * 2
    monitor.parts = {"cpu_total_mj": 9_000, "gpu_mj": 45_000, "gpu_sram_mj": 200}
    assert [meter.spent(BUSY) for meter in found.meters] == [Spent(40.1, 40.1), Spent(8.0, 4.0)]
    monitor.parts = {}
    assert [meter.spent(BUSY) for meter in found.meters] == [None, None]


def test_a_chip_that_tells_nothing_is_no_meter() -> None:
    with pytest.raises(OSError):
        Apple(CPU, FakeMonitor())


# All together


class Ticking:
    """Clocks that go on by the same with each look: half of what is done is ours."""

    def __init__(self) -> None:
        self.now = Clocks(0.0, 0.0, 0.0)

    def __call__(self) -> Clocks:
        now = self.now
        self.now = Clocks(now.wall + 1.0, now.cpu + 2.0, now.busy + 4.0)
        return now


def test_a_meter_that_is_lost_is_replaced(tree: Tree) -> None:
    package = tree.zone("intel-rapl:0", "package-0", 0)
    wattage = Metering([Rapl(tree.root)], instead=Estimate(80.0), read_clocks=Ticking())
    package.write_text("100000000\n")
    wattage.look(Work(10))
    assert (wattage.source, wattage.account.watts) == (Source.RAPL, 50.0)
    assert wattage.account.per_position == 5.0
    package.unlink()
    wattage.look(Work(20))
    assert wattage.source is Source.ESTIMATE
    wattage.look(Work(30))
    assert set(wattage.account.joules) == {Source.RAPL, Source.ESTIMATE}


def test_the_processor_beside_a_card_may_go_alone(tree: Tree) -> None:
    package = tree.zone("intel-rapl:0", "package-0", 0)
    library = FakeNvml()
    meters = find(Device("cuda", "GPU-1"), places=Places(tree.root, library)).meters
    wattage = Metering(meters, read_clocks=Ticking())
    package.unlink()
    wattage.look(Work(1))
    assert wattage.source is Source.NVML
    library.driver = False
    wattage.look(Work(2))
    assert wattage.source is Source.ESTIMATE


@pytest.mark.simulated_time
async def test_meters_are_read_now_and_then() -> None:
    wattage = Metering([Estimate(80.0)], read_clocks=Ticking())
    wattage._cores = 8
    done = iter((0, 30, 50))
    task = asyncio.create_task(wattage.run(lambda: Work(next(done))))
    await asyncio.sleep(2.5 * metering.INTERVAL)
    task.cancel()
    assert wattage.account.joules[Source.ESTIMATE] == pytest.approx(3 * 20.0)
    assert wattage.account.per_position == pytest.approx(40.0 / 50)


def test_this_machine_has_clocks_that_go_on() -> None:
    before = metering.clocks()
    sum(range(200_000))
    after = metering.clocks()
    assert after.wall > before.wall and after.cpu > before.cpu and after.busy >= before.busy
