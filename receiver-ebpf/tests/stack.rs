//! The programs keep to the stack of kernels older than this one: until Linux 6.12 all frames in a row have 512 bytes
//! together, newer ones give each function as many. Reads the object only; loads nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

static OBJECT: &[u8] = include_bytes!("../bpf/tracepoint.bpf.o");

/// `MAX_BPF_STACK` of include/linux/filter.h.
const LIMIT: u64 = 512;
/// Of what the verifier takes a multiple, for each frame.
const GRAIN: u64 = 32;
/// Opcodes and registers of include/uapi/linux/bpf.h.
const CALL: u8 = 0x85;
const LOAD_ADDRESS: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const FRAME_POINTER: u8 = 10;

type Place = (SectionIndex, u64);

struct Function {
    name: String,
    frame: u64,
    /// Called, or handed to the kernel to be called.
    called: Vec<Place>,
}

/// How far below the frame pointer the instructions reach.
fn frame(instructions: &[u8]) -> u64 {
    let mut deepest = 0;
    let mut copies = [false; 16];
    for instruction in instructions.chunks_exact(8) {
        let (opcode, destination, source) = (instruction[0], instruction[1] & 15, instruction[1] >> 4);
        let offset = i64::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let reached = match opcode {
            MOVE => {
                copies[usize::from(destination)] = source == FRAME_POINTER;
                0
            }
            ADD if copies[usize::from(destination)] => {
                copies[usize::from(destination)] = false;
                i64::from(i32::from_le_bytes(instruction[4..8].try_into().unwrap()))
            }
            // The classes of loads and stores.
            _ => match opcode & 7 {
                1 if source == FRAME_POINTER => offset,
                2 | 3 if destination == FRAME_POINTER => offset,
                _ => 0,
            },
        };
        deepest = deepest.min(reached);
    }
    deepest.unsigned_abs()
}

fn functions() -> HashMap<Place, Function> {
    let file = object::File::parse(OBJECT).unwrap();
    let mut found = HashMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let index = symbol.section_index().unwrap();
        let section = file.section_by_index(index).unwrap();
        let code = section.data().unwrap();
        let (start, end) = (symbol.address(), symbol.address() + symbol.size());
        let slice = |from: u64, to: u64| &code[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
        let called =
            section.relocations().filter(|(at, _)| (start..end).contains(at)).filter_map(|(at, to)| {
                let RelocationTarget::Symbol(target) = to.target() else { return None };
                let target = file.symbol_by_index(target).ok()?;
                let instruction = slice(at, at + 8);
                let immediate = i64::from(i32::from_le_bytes(instruction[4..8].try_into().unwrap()));
                let offset = match instruction[0] {
                    CALL => (immediate + 1) * 8,
                    LOAD_ADDRESS => immediate,
                    _ => return None,
                };
                Some((target.section_index()?, target.address().checked_add_signed(offset)?))
            });
        let (name, called) = (symbol.name().unwrap().to_owned(), called.collect());
        found.insert((index, start), Function { name, frame: frame(slice(start, end)), called });
    }
    // What is no function is a map or a table.
    let places: Vec<_> = found.keys().copied().collect();
    for function in found.values_mut() {
        function.called.retain(|place| places.contains(place));
    }
    found
}

/// The deepest row of frames from a function on.
fn depth(functions: &HashMap<Place, Function>, function: &Function) -> u64 {
    let below = function.called.iter().map(|place| depth(functions, &functions[place])).max().unwrap_or(0);
    function.frame.max(1).next_multiple_of(GRAIN) + below
}

#[test]
fn all_frames_in_a_row_fit_into_the_stack_of_older_kernels() {
    let functions = functions();
    let of = |name: &str| functions.values().find(|function| function.name == name).unwrap();
    // Both ways of being called are seen.
    let names: Vec<_> =
        of("on_sys_enter").called.iter().map(|place| functions[place].name.as_str()).collect();
    assert!(names.contains(&"operation_begins") && names.contains(&"aio_submitted"), "{names:?}");
    for function in functions.values() {
        let depth = depth(&functions, function);
        assert!(depth <= LIMIT, "{}: {depth} bytes", function.name);
    }
}
