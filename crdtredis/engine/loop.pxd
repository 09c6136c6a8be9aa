# epoll loop and connections: see engine/loop.pxi.
