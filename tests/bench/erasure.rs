//! Encoding and rebuilding by every kernel that this processor has, in one run: absolute, and as ratios to the
//! scalar kernel and to merely copying the data.

use serde::Serialize;
use std::hint::black_box;
use std::time::{Duration, Instant};
use store_base::erasure::{Code, CodeError, Kernel, Technique};

/// A kernel is measured this often; the best run counts, for others disturb and nobody helps.
const RUNS: u32 = 5;

/// One kernel's figures, per second of one core.
#[derive(Serialize)]
pub(crate) struct Line {
    case: &'static str,
    technique: &'static str,
    data: usize,
    coding: usize,
    slice_bytes: usize,
    kernel: String,
    /// Whether the product would choose it here.
    chosen: bool,
    /// Data that is encoded.
    encode_gb_s: f64,
    /// Data of stripes that as many slots as may be were lost of.
    rebuild_gb_s: f64,
    encode_to_scalar: f64,
    /// 1.0 is as fast as copying the data once.
    encode_to_copy: f64,
}

/// Measures every kernel; `time` is for one kernel and one direction.
pub(crate) fn cases(
    technique: Technique,
    data: usize,
    coding: usize,
    slice_bytes: usize,
    time: Duration,
) -> Result<Vec<Line>, CodeError> {
    let code = Code::new(technique, data, coding)?;
    let filled = |slot| (0..slice_bytes).map(|at| (at * 31 + slot * 7 + (at >> 8)) as u8).collect();
    let slots: Vec<Vec<u8>> = (0..data).map(filled).collect();
    let inputs: Vec<&[u8]> = slots.iter().map(Vec::as_slice).collect();
    let mut made = vec![vec![0u8; slice_bytes]; coding];
    let mut target = vec![0u8; data * slice_bytes];
    let rate = |work: &mut dyn FnMut()| gigabytes_per_second(data * slice_bytes, time, work);
    let copy = rate(&mut || {
        for (to, from) in target.chunks_mut(slice_bytes).zip(&inputs) {
            black_box(to).copy_from_slice(black_box(from));
        }
    });
    let mut scalar = 0.0;
    let mut lines = Vec::new();
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let code = code.with_kernel(kernel);
        let mut outputs: Vec<&mut [u8]> = made.iter_mut().map(Vec::as_mut_slice).collect();
        let encode = rate(&mut || code.encode(black_box(&inputs), black_box(&mut outputs)));
        // The first data slots are lost, as many as there can be; which bytes are read does not matter here.
        let lost: Vec<usize> = (0..coding.min(data)).collect();
        let present: Vec<usize> = (lost.len()..data + lost.len()).collect();
        let decoder = code.decoder(&present, &lost)?;
        let rebuild =
            rate(&mut || decoder.run(black_box(&inputs), black_box(&mut outputs[..lost.len()])));
        if kernel == Kernel::Scalar {
            scalar = encode;
        }
        lines.push(Line {
            case: "erasure",
            technique: technique.name(),
            data,
            coding,
            slice_bytes,
            kernel: format!("{kernel:?}"),
            chosen: kernel == Kernel::best(),
            encode_gb_s: encode,
            rebuild_gb_s: rebuild,
            encode_to_scalar: encode / scalar,
            encode_to_copy: encode / copy,
        });
    }
    Ok(lines)
}

fn gigabytes_per_second(bytes: usize, time: Duration, work: &mut dyn FnMut()) -> f64 {
    let mut best = 0.0f64;
    for _ in 0..RUNS {
        let (start, mut rounds) = (Instant::now(), 0u64);
        while start.elapsed() < time / RUNS {
            (0..8).for_each(|_| work());
            rounds += 8;
        }
        best = best.max(rounds as f64 * bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}
