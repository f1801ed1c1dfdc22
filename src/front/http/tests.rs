//! Tests over a real listener on loopback. An echo stands in for STOMP: it gives back what it reads,
//! frame by frame (up to each NUL), and does what some of them ask for.

mod health;
mod rig;
mod sockjs;
mod websocket;
