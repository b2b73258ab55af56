# cython: language_level=3
"""The reactor's C face; an accepted socket goes to inbox_put(&reactor.c, fd)."""
from cacheserver.engine cimport Engine
from cacheserver.net.budget cimport Budget
from cacheserver.net.conn cimport Conn, ReactorC

cdef class Reactor:
    cdef ReactorC c
    cdef readonly Engine engine
    cdef Budget held_budget
    cdef Budget pinned_budget
    cdef Budget carry_budget
    cdef Budget secure_budget
    cdef double idle_timeout
    cdef bint busy
    cdef bint close_asked
    cdef object on_job
    cdef int run_commands(self) except -1
    cdef int run_command(self, Conn *c) except -1
    cdef int begin_job(self, Conn *c) except -1
    cdef void end_batch(self) noexcept
