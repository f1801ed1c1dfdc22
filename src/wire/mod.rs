//! F4: the languages spoken with clients, as pure codecs. They know no socket, clock or thread:
//! bytes in, requests out, answers in, bytes out.

pub mod binary;
pub mod sockjs;
pub mod stomp;
pub mod websocket;
