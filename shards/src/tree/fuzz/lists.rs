//! The decoders of what leads to the trees of a file: the state in the superblock, the list of
//! runs, and the filters.

use std::rc::Rc;

use lightning_io::{to_u32, to_usize};

use crate::fuzz::{Decoder, Draw, Verdict, byte, number, refused};
use crate::tree::address::PageRef;
use crate::tree::blob::BlobRef;
use crate::tree::census::PagesByCodec;
use crate::tree::filter::Filter;
use crate::tree::root::{HEIGHT_MAX, Root};
use crate::tree::run::{Phase, Run, RunList};
use crate::tree::space::FILE_UNITS_MAX;
use crate::tree::state::TreeState;
use crate::{Codec, Timestamp};

pub(crate) const STATE: Decoder = Decoder {
    name: "tree_state",
    make: make_state,
    inflated_bytes_max: 0,
    repair: |_| (),
    check: check_state,
};

pub(crate) const RUN_LIST: Decoder = Decoder {
    name: "run_list",
    make: make_run_list,
    inflated_bytes_max: 0,
    repair: |_| (),
    check: check_run_list,
};

pub(crate) const FILTER: Decoder = Decoder {
    name: "filter",
    make: make_filter,
    inflated_bytes_max: 0,
    repair: |_| (),
    check: check_filter,
};

fn make_root(draw: Draw<'_>, file_units: u64) -> Root {
    let page = PageRef {
        unit: 1 + draw(file_units - 10),
        len_bytes: 4096 * (1 + to_u32(to_usize(draw(4)))),
        checksum: to_u32(to_usize(draw(1 << 32))),
    };
    let mut pages = PagesByCodec::NONE;
    for _ in 0..=draw(5) {
        let codec = Codec::ALL[to_usize(draw(4))];
        pages.add(codec, page, 4096 * (4 + to_usize(draw(4))));
    }
    Root {
        page,
        entries: number(draw),
        live_bytes: pages.total().stored_bytes + number(draw) / 2,
        height: 1 + byte(draw) % HEIGHT_MAX,
        pages,
    }
}

fn make_blob_ref(draw: Draw<'_>, file_units: u64) -> BlobRef {
    BlobRef {
        unit: 1 + draw(file_units - 10),
        content_bytes: to_u32(to_usize(draw(9000))),
        checksum: to_u32(to_usize(draw(1 << 32))),
    }
}

pub(crate) fn make_state(draw: Draw<'_>) -> Vec<u8> {
    let mut state = TreeState::EMPTY;
    if draw(5) > 0 {
        let file_units = 20 + draw(1 << 30);
        state = TreeState {
            base: make_root(draw, file_units),
            space_map: make_blob_ref(draw, file_units),
            runs: BlobRef::NONE,
            file_units,
        };
        if draw(3) > 0 {
            state.runs = make_blob_ref(draw, file_units);
        }
    }
    let mut bytes = [0; TreeState::BYTES];
    state.encode(&mut bytes);
    bytes.to_vec()
}

/// Whole runs, then a run that grows and its inputs.
fn make_run_list(draw: Draw<'_>) -> Vec<u8> {
    let whole = draw(5);
    let inputs = draw(4);
    let mut list = RunList::default();
    for at in 0..whole + u64::from(inputs > 0) + inputs {
        let phase = match at {
            at if at < whole => Phase::Whole,
            at if at == whole => Phase::Growing,
            _ => Phase::IntoRun,
        };
        let mut root = make_root(draw, 1 << 20);
        root.entries = 1 + root.entries / 2;
        let filter = make_blob_ref(draw, 1 << 20);
        let grows = phase == Phase::Growing;
        list.runs.push(Rc::new(Run {
            id: list.next_id,
            root,
            filter: if grows { BlobRef::NONE } else { filter },
            newest: Timestamp(number(draw)),
            left: draw(root.entries),
            tier: if grows { 1 } else { byte(draw) % 2 },
            phase,
            smallest: vec![b'a'; 1 + to_usize(draw(9))],
            largest: vec![if grows { b'b' } else { b'z' }; 1 + to_usize(draw(9))],
            merged_to: if phase.is_input() {
                b"m\0".to_vec()
            } else {
                Vec::new()
            },
            resident: Rc::default(),
        }));
        list.next_id += 1;
    }
    list.encode()
}

fn check_run_list(bytes: &[u8]) -> Verdict {
    match RunList::decode(bytes, FILE_UNITS_MAX) {
        Ok(list) => {
            assert_eq!(list.encode(), bytes);
            Verdict::Accepted { covered_bytes: 0 }
        }
        Err(what) => refused(what),
    }
}

fn make_filter(draw: Draw<'_>) -> Vec<u8> {
    let mut filter = Filter::for_keys(draw(200));
    for _ in 0..draw(200) {
        filter.insert(number(draw));
    }
    let mut bytes = vec![0; filter.size_bytes()];
    filter.write_piece(0, &mut bytes);
    bytes
}

fn check_filter(bytes: &[u8]) -> Verdict {
    match Filter::from_bytes(bytes) {
        Ok(filter) => {
            let mut again = vec![0; filter.size_bytes()];
            filter.write_piece(0, &mut again);
            assert_eq!(again, bytes);
            for hash in [0, u64::MAX, u64::MAX << 32] {
                filter.may_contain(hash);
            }
            Verdict::Accepted { covered_bytes: 0 }
        }
        Err(what) => refused(what),
    }
}

fn check_state(bytes: &[u8]) -> Verdict {
    let Ok(bytes) = <&[u8; TreeState::BYTES]>::try_from(bytes) else {
        return refused("not a state's length");
    };
    let state = match TreeState::decode(bytes) {
        Ok(state) => state,
        Err(what) => return refused(what),
    };
    let mut again = [0xff; TreeState::BYTES];
    state.encode(&mut again);
    assert_eq!(&again, bytes);
    Verdict::Accepted { covered_bytes: 0 }
}
