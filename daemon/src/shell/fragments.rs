//! Messages between daemons as frames of a link, which hold less than the largest message.
//!
//! A frame is one byte and a part of a message's encoding:
//!
//! | byte | the part is |
//! |---|---|
//! | 0 | a whole message |
//! | 1 | a piece, more follow |
//! | 2 | the last piece |
//!
//! The pieces of a message follow each other without pieces of another between them; whole messages (signs of
//! life) may come between.

use bytes::{BufMut, Bytes, BytesMut};
use store_shell::link::FRAME_BYTES_MAX;

/// Largest part of a message in one frame: a whole piece of an object (1 MiB) with what goes with it, which so is
/// never put together by copying.
pub(crate) const PART_BYTES_MAX: usize = FRAME_BYTES_MAX - 1;

/// Largest message that is put together.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 20;

const WHOLE: u8 = 0;
const PIECE: u8 = 1;
const LAST: u8 = 2;

/// Cuts a message, given as a rope, into the ropes of frames. Nothing large is copied.
pub(crate) fn cut(rope: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let total: usize = rope.iter().map(Bytes::len).sum();
    if total <= PART_BYTES_MAX {
        let mut frame = Vec::with_capacity(rope.len() + 1);
        frame.push(Bytes::from_static(&[WHOLE]));
        frame.extend(rope);
        return vec![frame];
    }
    let mut frames = Vec::with_capacity(total / PART_BYTES_MAX + 1);
    let mut frame = vec![Bytes::from_static(&[PIECE])];
    let mut room = PART_BYTES_MAX;
    for mut piece in rope {
        while piece.len() > room {
            frame.push(piece.split_to(room));
            frames.push(std::mem::replace(&mut frame, vec![Bytes::from_static(&[PIECE])]));
            room = PART_BYTES_MAX;
        }
        room -= piece.len();
        frame.push(piece);
    }
    frame[0] = Bytes::from_static(&[LAST]);
    frames.push(frame);
    frames
}

/// Puts messages together again.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    open: BytesMut,
}

impl Joiner {
    /// Takes the next frame; gives the message that it completes. An error ends the link.
    pub(crate) fn push(&mut self, mut frame: Bytes) -> Result<Option<Bytes>, String> {
        if frame.is_empty() {
            return Err("an empty frame".to_string());
        }
        let kind = frame.split_to(1)[0];
        match kind {
            WHOLE => Ok(Some(frame)),
            PIECE | LAST => {
                if self.open.len() + frame.len() > MESSAGE_BYTES_MAX {
                    return Err(format!("a message above {MESSAGE_BYTES_MAX} bytes"));
                }
                if self.open.is_empty() {
                    // Whoever sends pieces mostly sends few.
                    self.open.reserve(2 * PART_BYTES_MAX);
                }
                self.open.put_slice(&frame);
                Ok((kind == LAST).then(|| std::mem::take(&mut self.open).freeze()))
            }
            other => Err(format!("an unknown kind of frame: {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(pieces: &[usize]) -> usize {
        let mut byte = 0u8;
        let rope: Vec<Bytes> = pieces
            .iter()
            .map(|len| {
                byte += 1;
                Bytes::from(vec![byte; *len])
            })
            .collect();
        let whole: Vec<u8> = rope.concat();
        let frames = cut(rope);
        let mut joiner = Joiner::default();
        for (i, frame) in frames.iter().enumerate() {
            let frame = Bytes::from(frame.concat());
            assert!(frame.len() <= PART_BYTES_MAX + 1);
            let message = joiner.push(frame).expect("frames of ours");
            assert_eq!(message.is_some(), i + 1 == frames.len());
            if let Some(message) = message {
                assert!(message == whole, "a message of {pieces:?}");
            }
        }
        frames.len()
    }

    #[test]
    fn messages_of_every_size_come_through() {
        const MAX: usize = PART_BYTES_MAX;
        assert_eq!(through(&[0]), 1);
        assert_eq!(through(&[MAX]), 1);
        assert_eq!(through(&[10, MAX - 10]), 1);
        assert_eq!(through(&[10, MAX - 9]), 2);
        assert_eq!(through(&[MAX, 1]), 2);
        assert_eq!(through(&[3, 3 * MAX, 5, MAX, MAX - 8]), 5);
        assert_eq!(through(&[MAX, MAX]), 2);
    }

    #[test]
    fn a_sign_of_life_passes_a_message_in_pieces() {
        let mut joiner = Joiner::default();
        let mut push = |frame: &'static [u8]| joiner.push(Bytes::from_static(frame)).expect("ours");
        assert_eq!(push(b"\x01ab"), None);
        assert_eq!(push(b"\x00ping").expect("whole"), "ping");
        assert_eq!(push(b"\x02c").expect("the last piece"), "abc");
    }

    #[test]
    fn nonsense_is_refused() {
        for frame in [&b""[..], &b"\x07x"[..]] {
            assert!(Joiner::default().push(Bytes::from_static(frame)).is_err());
        }
        let mut joiner = Joiner::default();
        let mut piece = vec![0; PART_BYTES_MAX + 1];
        piece[0] = PIECE;
        let piece = Bytes::from(piece);
        let refused = (0..40).position(|_| joiner.push(piece.clone()).is_err());
        assert_eq!(
            refused,
            Some(MESSAGE_BYTES_MAX / PART_BYTES_MAX),
            "what is put together is bounded"
        );
    }
}
