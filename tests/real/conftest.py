"""Three processes in step for the tests of the contract, empty at the start of each test and equal
at its end."""
import pytest

from tests.real.cluster import Cluster


@pytest.fixture(scope="module")
def mesh():
    c = Cluster(3, gc_interval="50ms").start()
    yield c
    for s in c:
        s.dispose()


class World:
    """A, B and C, empty and in step at first."""

    def __init__(self, mesh, roles):
        self.mesh = mesh
        self.A, self.B, self.C = (mesh[i] for i in roles)

    def S(self):
        self.mesh.sync()

    def apart(self):
        self.mesh.pause()

    def all(self, *argv):
        """The reply that all three give, once it has been seen to be one and the same."""
        replies = [s(*argv) for s in self.mesh]
        assert replies[0] == replies[1] == replies[2], f"{argv}: {replies}"
        return replies[0]


@pytest.fixture(params=[(0, 1, 2), (2, 1, 0)], ids=["abc", "cba"])
def w(mesh, request):
    mesh.sync()
    mesh[0]("FLUSHALL")
    mesh.sync()
    world = World(mesh, request.param)
    assert world.all("DBSIZE") == 0
    yield world
    mesh.sync()
    mesh.assert_converged()
