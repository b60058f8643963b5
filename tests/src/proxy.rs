//! A way to a server that breaks at a chosen byte.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Answer,
}

/// What happens to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends, for both sides.
    Cut,
    /// It pauses in both directions, and ends.
    Stall(Duration),
    /// What follows in the direction is lost, and nobody is told.
    Swallow,
    /// It ends for the client; what the client had sent arrives all the same, after so long.
    Late(Duration),
    /// In the place of what follows the client gets these bytes, and the connection ends.
    Forge(Vec<u8>),
}

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// They lead to the server.
    Open,
    /// They end at once.
    Shut,
    /// They are taken, and never answered.
    Silent,
}

/// Takes connections and passes them on to a server, until something is to happen to one.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    door: Door,
    open: Vec<TcpStream>,
    passed: [u64; 2],
    /// The first is waited for; each next one when the one before has happened.
    armed: VecDeque<(Direction, u64, Fault)>,
    /// What becomes of the door when the last has happened.
    door_afterwards: Door,
    gone: bool,
}

impl Proxy {
    /// Starts one before a server on this machine.
    ///
    /// # Panics
    ///
    /// When the machine has no port for it.
    #[must_use]
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let address = listener.local_addr().expect("it has an address");
        let state = State {
            door: Door::Open,
            open: Vec::new(),
            passed: [0; 2],
            armed: VecDeque::new(),
            door_afterwards: Door::Open,
            gone: false,
        };
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let shared = Arc::new(Shared { target, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&accepting, &listener));
        Self { address, shared }
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many bytes have passed, as requests and as answers, since it was started.
    #[must_use]
    pub fn passed(&self) -> [u64; 2] {
        self.shared.state().passed
    }

    /// From now on this many bytes pass in a direction, on whichever connection; then this happens to that one, and to no other.
    /// With several faults armed, the bytes of the next are counted from the one before.
    pub fn arm(&self, direction: Direction, bytes: u64, fault: Fault) {
        self.shared.state().armed.push_back((direction, bytes, fault));
    }

    /// What becomes of the door in the moment in which the last armed fault happens.
    pub fn then(&self, door: Door) {
        self.shared.state().door_afterwards = door;
    }

    /// Forgets what is armed, and opens the door.
    pub fn disarm(&self) {
        let mut state = self.shared.state();
        state.armed.clear();
        state.door = Door::Open;
        state.door_afterwards = Door::Open;
    }

    /// Waits until everything armed has happened; answers false when it does not in so long.
    #[must_use]
    pub fn has_happened(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience.min(PATIENCE);
        let mut state = self.shared.state();
        while !state.armed.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// What becomes of new connections from now on.
    pub fn set_door(&self, door: Door) {
        self.shared.state().door = door;
    }

    /// Ends all connections.
    pub fn sever(&self) {
        for stream in self.shared.state().open.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().gone = true;
        self.sever();
        // Wakes who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes that pass. Answers what happens before the last of them, and after how many.
    fn pass(&self, direction: Direction, count: usize) -> Option<(usize, Fault)> {
        let mut state = self.state();
        let count = count as u64;
        state.passed[direction as usize] += count;
        let (armed, left, fault) = state.armed.front_mut()?;
        if *armed != direction {
            return None;
        }
        // What takes the place of the next byte waits for it; what ends a connection need not.
        if *left > count || (*left == count && matches!(fault, Fault::Forge(_))) {
            *left -= count;
            return None;
        }
        let (_, place, fault) = state.armed.pop_front()?;
        if state.armed.is_empty() {
            state.door = state.door_afterwards;
        }
        self.changed.notify_all();
        Some((usize::try_from(place).unwrap_or(usize::MAX), fault))
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let mut state = shared.state();
        if state.gone {
            return;
        }
        match state.door {
            Door::Shut => continue,
            Door::Silent => {
                state.open.push(client);
                continue;
            }
            Door::Open => drop(state),
        }
        // A server that is not there is like one that ends the connection at once.
        let Ok(server) = TcpStream::connect(shared.target) else { continue };
        let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("an option of sockets");
            shared.state().open.push(clone(stream));
        }
        let (answers_from, answers_to) = (clone(&server), clone(&client));
        let pumping = Arc::clone(shared);
        std::thread::spawn(move || pump(&pumping, Direction::Request, client, server));
        let pumping = Arc::clone(shared);
        std::thread::spawn(move || pump(&pumping, Direction::Answer, answers_from, answers_to));
    }
}

/// Passes bytes on, in one direction, until one side ends it or something happens.
fn pump(shared: &Shared, direction: Direction, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 1 << 14];
    let mut lost = false;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let (chunk, _) = buffer.split_at(count);
        let Some((place, fault)) = shared.pass(direction, count) else {
            // Who does not listen any more may still have something to say to the other side, which is read to its end.
            if !lost && to.write_all(chunk).is_err() {
                lost = true;
            }
            continue;
        };
        let (before, rest) = chunk.split_at(place.min(count));
        let _ = to.write_all(before);
        match fault {
            Fault::Cut => {}
            Fault::Stall(pause) => std::thread::sleep(pause),
            Fault::Swallow => {
                lost = true;
                continue;
            }
            Fault::Late(pause) => {
                let (client, server) = if direction == Direction::Request { (&from, &to) } else { (&to, &from) };
                let _ = client.shutdown(Shutdown::Both);
                if direction == Direction::Request {
                    std::thread::sleep(pause);
                    let _ = (&*server).write_all(rest);
                    let _ = server.shutdown(Shutdown::Write);
                    return;
                }
            }
            Fault::Forge(bytes) => {
                let _ = to.write_all(&bytes);
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        break;
    }
    // The server is told that the client has ended, and may finish what it does; the client is told all.
    let _ = to.shutdown(if direction == Direction::Request { Shutdown::Write } else { Shutdown::Both });
}
