//! The room from outside: scripted servers on loopback sockets, one thread per connection.
