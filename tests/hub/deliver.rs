//! Writes an answer to the socket, with everything that is scripted to go wrong on the way.

use std::io::{self, Write};
use std::time::Instant;

use super::gate::Rate;
use super::record::{Journal, Ticket};
use super::reply::{After, Framing, Reply, reason};
use super::wire::{Cut, Wire};

/// The largest piece written at once.
const PIECE: u64 = 64 * 1024;

/// How a connection goes on after an answer.
pub(super) enum Next {
    /// Another request may follow.
    Request,
    /// It is closed in good order.
    Close,
    /// It is cut.
    Cut(Cut),
}

/// The socket of an answer, and the conditions of its delivery.
pub(super) struct Delivery<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) journal: &'a Journal,
    pub(super) ticket: Ticket,
    /// The pace of the whole stand-in.
    pub(super) rate: &'a Rate,
    /// Whether the stand-in is being stopped.
    pub(super) stopping: &'a dyn Fn() -> bool,
}

impl Delivery<'_> {
    /// Delivers an answer; the body only if `with_body`. An error means that the client has gone.
    pub(super) fn run(mut self, reply: &Reply, with_body: bool) -> io::Result<Next> {
        if reply.silent {
            super::gate::Gate::shut().pass(|| self.abandoned());
            return Ok(Next::Cut(Cut::Fin));
        }
        for gate in &reply.hold {
            self.pass(gate)?;
        }
        if let Some(how) = reply.drop {
            return Ok(Next::Cut(how));
        }
        if let Some(raw) = &reply.raw {
            self.wire.write_all(raw)?;
            return Ok(Next::Cut(Cut::Fin));
        }
        for status in &reply.interim {
            self.wire.write_all(format!("HTTP/1.1 {status} {}\r\n\r\n", reason(*status)).as_bytes())?;
        }
        if reply.interim_only {
            return Ok(Next::Request);
        }
        let head = reply.head();
        if let Some((at, how)) = reply.cut_head {
            self.wire.write_all(&head[..at.min(head.len())])?;
            return Ok(Next::Cut(how));
        }
        self.wire.write_all(&head)?;
        if with_body && let Some(how) = self.body(reply)? {
            return Ok(Next::Cut(how));
        }
        Ok(match (reply.after, reply.framing) {
            // A length that is too large, and a body that only a close ends, must be followed by
            // that close.
            (_, Framing::LengthOff(1..)) if with_body => Next::Cut(Cut::Fin),
            (_, Framing::UntilClose) | (After::Close | After::CloseUnannounced, _) => Next::Close,
            (After::KeepAlive, _) => Next::Request,
        })
    }

    fn abandoned(&self) -> bool {
        (self.stopping)() || self.wire.abandoned()
    }

    fn pass(&self, gate: &super::gate::Gate) -> io::Result<()> {
        if gate.pass(|| self.abandoned()) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    /// Writes the body piece by piece; a piece ends wherever something is scripted to happen.
    fn body(&mut self, reply: &Reply) -> io::Result<Option<Cut>> {
        let len = reply.len();
        let mut stalls = reply.stalls.clone();
        stalls.sort_by_key(|(at, _)| *at);
        let mut stalls = stalls.into_iter().peekable();
        let mut at = 0;
        let mut buffer = Vec::new();
        loop {
            while let Some((_, gate)) = stalls.next_if(|(place, _)| *place <= at) {
                self.pass(&gate)?;
            }
            if let Some((_, how)) = reply.cut.filter(|(place, _)| *place <= at) {
                return Ok(Some(how));
            }
            if at == len {
                break;
            }
            let mut end = (at + PIECE).min(len);
            end = end.min(at.saturating_add(self.piece(reply)));
            end = stalls.peek().map_or(end, |(place, _)| end.min(*place));
            end = reply.cut.map_or(end, |(place, _)| end.min(place));
            buffer.resize((end - at) as usize, 0);
            reply.body.read(reply.part.0 + at, &mut buffer);
            for flip in reply.flips.iter().filter(|flip| (at..end).contains(flip)) {
                buffer[(flip - at) as usize] ^= 1;
            }
            self.pace(reply, buffer.len())?;
            self.piece_out(&buffer, reply.chunked())?;
            at = end;
        }
        if reply.chunked() {
            self.wire.write_all(b"0\r\n\r\n")?;
        }
        Ok(None)
    }

    fn piece(&self, reply: &Reply) -> u64 {
        let own = reply.rate.as_ref().map_or(usize::MAX, Rate::piece);
        own.min(self.rate.piece()) as u64
    }

    fn pace(&self, reply: &Reply, bytes: usize) -> io::Result<()> {
        let on = self.rate.pace(bytes, || self.abandoned())
            && reply.rate.as_ref().is_none_or(|rate| rate.pace(bytes, || self.abandoned()));
        if on { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    /// Writes one piece. The piece is counted first, and bytes that could not be written are
    /// subtracted afterwards. So a client that has read a byte never finds it uncounted.
    fn piece_out(&mut self, piece: &[u8], chunked: bool) -> io::Result<()> {
        if chunked {
            self.wire.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
        }
        self.journal.update(self.ticket, |record| {
            record.bytes_sent += piece.len() as u64;
            record.first_byte.get_or_insert_with(Instant::now);
        });
        let mut left = piece;
        while !left.is_empty() {
            match self.wire.write(left) {
                Ok(count) if count > 0 => left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                failed => {
                    self.journal.update(self.ticket, |record| record.bytes_sent -= left.len() as u64);
                    return Err(failed.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                }
            }
        }
        if chunked {
            self.wire.write_all(b"\r\n")?;
        }
        Ok(())
    }
}
