//! The program as its users meet it: started as a process, told things by arguments, the
//! environment and signals, and judged by what it prints and how it exits.

pub mod process;
mod reference;
mod commands;
mod demo;
mod online;
mod files;
mod serving;
