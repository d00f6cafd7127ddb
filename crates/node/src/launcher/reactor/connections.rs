//! Connections of nodes: lines in, lines out.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use super::Reactor;
use crate::launcher::protocol::{Call, Message};

/// Names a connection as long as the launcher lives; descriptors are used again.
pub(super) type ConnectionId = u64;

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) stream: UnixStream,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) bound: bool,
    pub(super) closed: bool,
}

impl Reactor {
    pub(super) fn accept(&mut self, stream: UnixStream, bound: bool) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.next_connection += 1;
        self.connections.push(Connection {
            id: self.next_connection,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            bound,
            closed: false,
        });
        Ok(())
    }

    pub(super) fn read(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        let mut buffer = [0; 65536];
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => {
                    connection.closed = true;
                    break;
                }
                Ok(count) => connection.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    connection.closed = true;
                    break;
                }
            }
        }
        let id = connection.id;
        let mut calls = Vec::new();
        while let Some(end) = connection.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = connection.input.drain(..=end).collect();
            calls.push(serde_json::from_slice::<Call>(&line));
        }
        for call in calls {
            match call {
                Ok(call) => self.call(id, call),
                Err(error) => eprintln!("unreadable request: {error}"),
            }
        }
    }

    pub(super) fn send(&mut self, connection: ConnectionId, message: &Message) {
        let found = self.connections.iter_mut().find(|one| one.id == connection);
        if let (Some(connection), Ok(line)) = (found, serde_json::to_vec(message)) {
            connection.output.extend_from_slice(&line);
            connection.output.push(b'\n');
        }
    }

    pub(super) fn broadcast(&mut self, message: &Message) {
        let all: Vec<ConnectionId> = self.connections.iter().map(|one| one.id).collect();
        for connection in all {
            self.send(connection, message);
        }
    }

    pub(super) fn flush(&mut self) {
        for connection in &mut self.connections {
            while !connection.output.is_empty() {
                match connection.stream.write(&connection.output) {
                    Ok(written) => drop(connection.output.drain(..written)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        connection.closed = true;
                        connection.output.clear();
                    }
                }
            }
        }
    }

    /// A bound connection's end is the launcher's.
    pub(super) fn drop_closed(&mut self) {
        if self
            .connections
            .iter()
            .any(|connection| connection.closed && connection.bound)
        {
            self.end();
        }
        self.connections.retain(|connection| !connection.closed);
    }
}
