"""Random task queues and slots, small enough that they often meet."""

from hypothesis import strategies as st

from spinor.jobs.models import Gpu, Offer, Requirements, Slot

GB = 10**9
SITES = ("LYON", "PIC", "DESY")
CES = {"LYON": ("lyon-1", "lyon-2"), "PIC": ("pic-1",), "DESY": ("desy-1",)}
TAGS = ("ssd", "highmem", "network")

subsets = st.lists(st.sampled_from(SITES), unique=True, max_size=2).map(sorted)
gpus = st.builds(Gpu, model=st.sampled_from(["NVIDIA A100", "NVIDIA T4"]), memory_bytes=st.sampled_from([16, 40]))
tags = st.lists(st.sampled_from(TAGS), unique=True, max_size=2).map(sorted)

offers = st.builds(
    Offer,
    cores=st.integers(0, 12),
    memory_bytes=st.integers(0, 12),
    disk_bytes=st.integers(0, 12),
    wall_s=st.sampled_from([0, 60, 3600]),
    tags=tags,
    gpus=st.lists(gpus, max_size=3),
    platform=st.sampled_from(["", "x86_64", "aarch64"]),
    hs23_per_core=st.sampled_from([0.0, 7.5, 20.0]),
    container_runtimes=st.sampled_from([[], ["apptainer"]]),
    whole_node=st.booleans(),
)


@st.composite
def slots(draw: st.DrawFn, pilot_id: int = 1) -> Slot:
    site = draw(st.sampled_from(SITES))
    ce = draw(st.sampled_from(CES[site]))
    return Slot(
        pilot_id=pilot_id, site=site, site_id=SITES.index(site), ce=ce,
        ce_id=sum(CES.values(), ()).index(ce), offer=draw(offers),
    )  # fmt: skip


@st.composite
def requirements(draw: st.DrawFn) -> Requirements:
    cores = draw(st.integers(1, 4))
    near = draw(st.one_of(st.just([]), subsets))
    return Requirements(
        vo_id=1,
        owner_id=draw(st.integers(1, 3)),
        group_id=draw(st.integers(1, 2)),
        cores=cores,
        max_cores=cores + draw(st.sampled_from([0, 0, 2, 6])),
        whole_node=draw(st.sampled_from([False, False, False, True])),
        memory_bytes=draw(st.integers(0, 6)),
        disk_bytes=draw(st.integers(0, 6)),
        wall_s=draw(st.sampled_from([1, 60, 3600])),
        cpu_work_hs23_s=draw(st.sampled_from([0.0, 0.0, 0.0, 500.0, 100_000.0])),
        gpus=draw(st.sampled_from([0, 0, 0, 1, 2])),
        gpu_model=draw(st.sampled_from(["", "a100"])),
        gpu_memory_bytes=draw(st.sampled_from([0, 20])),
        platform=draw(st.sampled_from(["", "", "x86_64"])),
        container=draw(st.sampled_from([False, False, True])),
        sites=draw(st.one_of(st.just([]), subsets)),
        banned_sites=draw(st.one_of(st.just([]), st.just([]), subsets)),
        computing_elements=draw(st.sampled_from([[], [], ["lyon-1", "pic-1"]])),
        tags=draw(st.one_of(st.just([]), tags)),
        labels=draw(st.sampled_from([[], ["prod"], ["prod", "test"]])),
        near_sites=near,
        near_wait_s=600 if near else 0,
    )
