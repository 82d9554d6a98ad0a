//! A client of Redis for tests, in the protocol's second version: it asks, waits and hands out what
//! came. It shares no code with the product, so that what it finds in Redis is what is there.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;

use obo_gateway::trust::Roots;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::support::PATIENCE;

/// What Redis said.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Nothing,
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Error(String),
}

/// Bytes that can be read and written, whatever carries them.
trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// One connection, used by one at a time.
pub struct Connection(BufReader<Box<dyn Stream>>);

impl Connection {
    /// Connects to a port of this machine.
    pub fn open(port: u16) -> io::Result<Self> {
        Ok(Self::over(connect(port)?))
    }

    /// The same with TLS; `pem` is the authority that is believed.
    pub fn open_tls(port: u16, pem: &str) -> io::Result<Self> {
        let config = Roots::from_pem(pem.as_bytes()).unwrap().client_config().unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let client = ClientConnection::new(config.into(), name).unwrap();
        Ok(Self::over(StreamOwned::new(client, connect(port)?)))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    /// Asks, and takes a refusal for an answer; an error is one of the connection.
    pub fn try_ask(&mut self, words: &[&[u8]]) -> io::Result<Value> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&command)?;
        self.0.get_mut().flush()?;
        self.read()
    }

    /// Asks.
    ///
    /// # Panics
    ///
    /// When the connection breaks or Redis refuses.
    pub fn ask(&mut self, words: &[&[u8]]) -> Value {
        let answer = self.try_ask(words).expect("Redis answers");
        if let Value::Error(error) = &answer {
            panic!("Redis refuses {}: {error}", words[0].escape_ascii());
        }
        answer
    }

    fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let number = || line[1..].parse::<i64>().map_err(io::Error::other);
        Ok(match line.as_bytes()[0] {
            b'+' => Value::Bytes(line[1..].into()),
            b'-' => Value::Error(line[1..].to_owned()),
            b':' => Value::Number(number()?),
            b'$' => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Value::Bytes(bytes)
                }
                Err(_) => Value::Nothing,
            },
            b'*' => match usize::try_from(number()?) {
                Ok(length) => {
                    Value::List((0..length).map(|_| self.read()).collect::<Result<_, _>>()?)
                }
                Err(_) => Value::Nothing,
            },
            _ => return Err(io::Error::other(format!("no RESP: {line}"))),
        })
    }
}

impl Value {
    /// The bytes; of nothing, none.
    ///
    /// # Panics
    ///
    /// When it is something else.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Nothing => Vec::new(),
            Self::Number(_) | Self::List(_) | Self::Error(_) => panic!("no bytes: {self:?}"),
        }
    }

    /// The same as text.
    pub fn text(self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    /// The items.
    ///
    /// # Panics
    ///
    /// When it is no list.
    pub fn list(self) -> Vec<Self> {
        let Self::List(list) = self else { panic!("no list: {self:?}") };
        list
    }

    /// The number.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn number(self) -> i64 {
        let Self::Number(number) = self else { panic!("no number: {self:?}") };
        number
    }

    /// All bytes in it, in order; numbers as Redis writes them.
    pub fn pieces(self) -> Vec<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => vec![bytes],
            Self::Number(number) => vec![number.to_string().into_bytes()],
            Self::List(list) => list.into_iter().flat_map(Self::pieces).collect(),
            Self::Nothing | Self::Error(_) => Vec::new(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::List(list) => f.debug_list().entries(list).finish(),
            Self::Error(error) => write!(f, "error: {error}"),
        }
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
