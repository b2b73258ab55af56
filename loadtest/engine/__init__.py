"""The load generator's data plane: one thread, one epoll set, no interpreter on the way of a request.

  histogram  durations, counted in HdrHistogram's layout
  draw       random numbers, and which key comes next
  content    what a key is called, how large its value is, and every byte of it
  desk       the structures that the modules share
  ask        requests as bytes
  judge      what the bytes of the replies mean
  conn       sockets: connecting, sending, losing them
  source     which request comes next
  loop       the epoll loop
  generator  its face to Python
  hearing    a conversation without a socket, for the tests

Each knows those above it. None knows the server's code.
"""
