"""torch.linalg: values against NumPy and against what defines them, derivatives against finite differences, errors."""

from __future__ import annotations

import numpy as np
import pytest
from tolerance import agree

import antorcha as torch

L = torch.linalg
DTYPES = [torch.float64, torch.complex128]


def matrix(*shape: int, dtype=torch.float64, seed: int = 0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape)
    if dtype.is_complex:
        x = x + 1j * generator.standard_normal(shape)
    return torch.from_numpy(x).to(dtype)


def positive(n: int, *lead: int, dtype=torch.float64):
    x = matrix(*lead, n, n, dtype=dtype)
    return x @ x.mH + torch.eye(n, dtype=dtype)


# -- values -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["inv", "det", "eigvalsh", "cholesky", "matrix_rank", "pinv", "svdvals", "cond"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, *DTYPES])
def test_functions_of_one_matrix_agree_with_numpy(name, dtype):
    A = positive(5, 2, dtype=dtype)
    reference = getattr(np.linalg, name, None) or (lambda a: np.linalg.svd(a, compute_uv=False))
    agree(getattr(L, name)(A), reference(A.numpy()))


@pytest.mark.parametrize("shape", [(4, 4), (3, 6, 4), (2, 80, 80), (4, 6), (0, 3), (3, 0), (0, 4, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_multiply_to_the_matrix(shape, dtype):
    A = matrix(*shape, dtype=dtype)
    P, lower, U = L.lu(A)
    agree(P @ lower @ U, A)
    Q, R = L.qr(A)
    agree(Q @ R, A)
    for full in (False, True):
        u, s, vh = L.svd(A, full_matrices=full)
        k = s.shape[-1]
        agree((u[..., :k] * s.unsqueeze(-2).to(dtype)) @ vh[..., :k, :], A)
    complete = L.qr(A, "complete")
    assert complete.Q.shape[-1] == A.shape[-2]
    agree(complete.Q @ complete.R, A)
    a, tau = torch.geqrf(A)
    if shape[-2] >= shape[-1]:
        agree(L.householder_product(a, tau), Q)
        agree(torch.ormqr(a, tau, A, True, True)[..., :shape[-1], :], R)
    agree(a[..., :min(shape[-2:]), :].triu(), R)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eigenvectors(dtype):
    A = matrix(2, 5, 5, dtype=dtype)
    H = A + A.mH
    for triangle in "LU":
        w, v = L.eigh(H, triangle)
        agree(H @ v, v * w.unsqueeze(-2).to(dtype))
    w, v = L.eig(A)
    agree(A.to(torch.complex128) @ v, v * w.unsqueeze(-2))
    agree(L.eigvals(A).sum(-1), A.diagonal(0, -2, -1).sum(-1).to(torch.complex128))


@pytest.mark.parametrize("dtype", DTYPES)
def test_systems(dtype):
    A, B = matrix(2, 30, 30, dtype=dtype), matrix(2, 30, 3, dtype=dtype, seed=1)
    agree(A @ L.solve(A, B), B)
    agree(L.solve(A, B.mT, left=False) @ A, B.mT)
    agree((A @ L.solve(A, B[..., 0]).unsqueeze(-1)).squeeze(-1), B[..., 0])
    factors = L.lu_factor(A)
    agree(A @ L.lu_solve(*factors, B), B)
    agree(A.mH @ L.lu_solve(*factors, B, adjoint=True), B)
    agree(L.lu_solve(*factors, B.mT, left=False) @ A, B.mT)
    easy = A * 0.1 + 3 * torch.eye(30, dtype=dtype)
    for upper in (False, True):
        T = easy.triu() if upper else easy.tril()
        agree(T @ L.solve_triangular(easy, B, upper=upper), B)
        agree(L.solve_triangular(easy, B.mT, upper=upper, left=False) @ T, B.mT)
        unit = T - T.diagonal(0, -2, -1).diag_embed() + torch.eye(30, dtype=dtype)
        agree(unit @ L.solve_triangular(easy, B, upper=upper, unitriangular=True), B)
    H = positive(30, 2, dtype=dtype)
    for upper in (False, True):
        factor = L.cholesky(H, upper=upper)
        agree(factor.mH @ factor if upper else factor @ factor.mH, H)
        agree(H @ torch.cholesky_solve(B, factor, upper), B)
        agree(torch.cholesky_inverse(factor, upper), L.inv(H))


@pytest.mark.parametrize("dtype, hermitian", [(torch.float64, False), (torch.complex128, False), (torch.complex128, True)])
def test_indefinite_symmetric_systems(dtype, hermitian):
    A = matrix(3, 9, 9, dtype=dtype)
    A = A + (A.mH if hermitian else A.mT)
    B = matrix(9, 2, dtype=dtype, seed=1)
    factors = L.ldl_factor(A, hermitian=hermitian)
    assert bool((factors.pivots < 0).any())     # blocks of two rows occur
    agree(A @ L.ldl_solve(*factors, B, hermitian=hermitian), B.expand(3, 9, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_least_squares(dtype):
    for shape in [(6, 3), (3, 6), (2, 5, 5)]:
        A, B = matrix(*shape, dtype=dtype), matrix(*shape[:-1], 2, dtype=dtype, seed=1)
        for driver in ("gels", "gelsy", "gelsd", "gelss"):
            found = L.lstsq(A, B, driver=driver)
            agree(found.solution, L.pinv(A) @ B)
        if len(shape) == 2:
            agree(found.residuals, np.linalg.lstsq(A.numpy(), B.numpy(), rcond=None)[1])
            assert found.rank == 3


def test_functions_of_matrices():
    A = matrix(2, 4, 4)
    agree(L.matrix_power(A, 5), np.linalg.matrix_power(A.numpy(), 5))
    agree(L.matrix_power(A, -2), np.linalg.matrix_power(A.numpy(), -2))
    w, v = np.linalg.eig(A.numpy())
    for scale in (1e-3, 1.0, 30.0):
        agree(L.matrix_exp(A * scale), ((v * np.exp(w * scale)[:, None]) @ np.linalg.inv(v)).real)
    chain = [matrix(n, m, seed=n) for n, m in [(7, 2), (2, 9), (9, 3), (3, 5)]]
    agree(L.multi_dot(chain), np.linalg.multi_dot([x.numpy() for x in chain]))
    between = [chain[0][0], *chain[1:], chain[3][0]]
    agree(L.multi_dot(between), np.linalg.multi_dot([x.numpy() for x in between]))
    three = [matrix(3, 3, seed=n).to(torch.bfloat16) for n in range(3)]
    assert L.multi_dot(three).tolist() == (three[0] @ three[1] @ three[2]).tolist() != (three[0] @ (three[1] @ three[2])).tolist()
    T = matrix(2, 3, 6, seed=4)
    agree(L.tensorinv(T), np.linalg.tensorinv(T.numpy()))
    agree(L.tensorsolve(T, T[..., 0]), np.linalg.tensorsolve(T.numpy(), T[..., 0].numpy()))
    agree(torch.vander(T[0, 0], 3), np.vander(T[0, 0].numpy(), 3))
    agree(L.cross(T[:, :, :3], T[:, :, 3:]), np.cross(T[:, :, :3].numpy(), T[:, :, 3:].numpy()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms(dtype):
    A = matrix(3, 4, 5, dtype=dtype)
    for order in (2, 1, 0, 3, 0.5, -1, np.inf, -np.inf):
        agree(L.vector_norm(A, order, 1), np.linalg.norm(A.numpy(), order, 1))
        agree(L.vector_norm(A, order), np.linalg.norm(A.numpy().reshape(-1), order))
        assert L.vector_norm(A, order, (0, 2), True).shape == (1, 4, 1)
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        agree(L.matrix_norm(A, order), np.linalg.norm(A.numpy(), order, (1, 2)))
        agree(L.norm(A, order, (2, 0), True), np.linalg.norm(A.numpy(), order, (2, 0), True))
        agree(L.cond(A[:, :, :4], order), np.linalg.cond(A[:, :, :4].numpy(), order))
    agree(torch.norm(A), np.linalg.norm(A.numpy().reshape(-1)))
    agree(torch.frobenius_norm(A, (1, 2)), L.matrix_norm(A))
    agree(torch.nuclear_norm(A), L.matrix_norm(A, "nuc"))
    agree(torch.dist(A, A * 0, 3), np.linalg.norm(A.numpy().reshape(-1), 3))
    agree(torch.cov(A[0]), np.cov(A[0].numpy()))
    agree(torch.corrcoef(A[0]), np.corrcoef(A[0].numpy()))
    assert bool((L.vector_norm(torch.renorm(A, 2, 0, 0.5), 2, (1, 2)) < 0.5001).all())
    x, y = matrix(4, 3), matrix(2, 3, seed=1)
    agree(torch.cdist(x, y, 1.0), np.abs(x.numpy()[:, None] - y.numpy()).sum(-1))
    areas = (x.numpy()[:, 1:] + x.numpy()[:, :-1]) / 2 * np.diff(y[0].numpy())
    agree(torch.trapezoid(x, y[0]), areas.sum(1))


@pytest.mark.parametrize("first, second", [((40, 7), (30, 7)), ((2, 40, 7), (30, 7)), ((3, 1, 30, 5), (4, 26, 5)), ((5, 7), (6, 7))])
def test_euclidean_distances_by_products_or_differences(first, second):
    """Far from the origin, where squares of lengths would cancel."""
    a, b = (np.random.default_rng(k).standard_normal(shape) + 100 for k, shape in enumerate((first, second)))
    apart = a[..., :, None, :].astype(np.float32).astype(np.float64) - b[..., None, :, :].astype(np.float32)
    right = np.sqrt((apart ** 2).sum(-1))
    x, y = (torch.tensor(t.astype(np.float32), requires_grad=True) for t in (a, b))
    found = torch.cdist(x, y)
    agree(found.detach(), right)
    g = np.cos(np.arange(right.size)).reshape(right.shape)
    found.backward(torch.tensor(g.astype(np.float32)))
    directions = apart / right[..., None] * g[..., None]
    for leaf, sums in ((x, directions.sum(-2)), (y, -directions.sum(-3))):
        sums = sums.sum(tuple(range(sums.ndim - leaf.dim())))
        agree(leaf.grad, sums.sum(tuple(d for d, n in enumerate(leaf.shape) if n == 1), keepdims=True))
    exact = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    agree(exact.detach(), right)
    assert torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").diagonal(dim1=-2, dim2=-1).sum() == 0


# -- derivatives ------------------------------------------------------------------------------------------------

def check(function, *inputs):
    assert torch.autograd.gradcheck(function, tuple(x.detach().clone().requires_grad_() for x in inputs))


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_of_systems(dtype):
    A, B = matrix(3, 3, dtype=dtype) + 2 * torch.eye(3, dtype=dtype), matrix(3, 2, dtype=dtype, seed=1)
    check(L.inv, A)
    check(L.solve, A, B)
    check(L.det, A)
    check(L.slogdet, A)
    check(lambda a, b: L.solve_triangular(a, b, upper=True), A, B)
    check(lambda a, b: L.solve_triangular(a, b.mT, upper=False, left=False, unitriangular=True), A, B)
    check(lambda a: L.cholesky(a @ a.mH + torch.eye(3, dtype=dtype)), A)
    check(lambda a: L.cholesky(a @ a.mH + torch.eye(3, dtype=dtype), upper=True), A)
    check(lambda b, a: torch.cholesky_solve(b, L.cholesky(a @ a.mH)), B, A)
    for shape in [(3, 3), (3, 5), (5, 3)]:
        check(lambda a: L.lu_factor(a)[0], matrix(*shape, dtype=dtype))
    check(lambda a, b: L.lu_solve(*L.lu_factor(a), b, adjoint=True), A, B)
    assert torch.autograd.gradgradcheck(L.inv, (A.requires_grad_(),))


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_of_decompositions(dtype):
    A, wide = matrix(3, 3, dtype=dtype), matrix(2, 4, dtype=dtype)
    for x in (wide, wide.mH.clone()):
        check(L.qr, x)
        check(L.svdvals, x)
        check(lambda a: [t.abs() for t in L.svd(a, full_matrices=False)], x)
        check(L.pinv, x)
        check(lambda a, b=x: L.lstsq(a, b).solution, x)
    check(lambda a: [t.abs() for t in L.eigh(a + a.mH)], A)
    check(lambda a: [t.abs() for t in L.eig(a)], A)
    check(lambda a: L.pinv(a + a.mH, hermitian=True), A)
    check(L.matrix_exp, A)
    check(L.householder_product, wide.mH.clone(), matrix(2, dtype=dtype))
    check(lambda a: L.matrix_norm(a, "nuc"), wide)


def test_determinant_of_a_singular_matrix_has_a_derivative():
    A = torch.ones(3, 3, dtype=torch.float64)
    A[2, 2] = 2.0
    check(L.det, A)


@pytest.mark.parametrize("order", [2, 1, 0.5, 3, -1.5, np.inf, -np.inf])
def test_derivatives_of_norms(order):
    for dtype in DTYPES:
        check(lambda a: L.vector_norm(a, order, -1), matrix(3, 4, dtype=dtype))
    x = torch.zeros(3, requires_grad=True)
    L.vector_norm(x, order).backward() if order > 0 else None
    assert x.grad is None or not bool(x.grad.isnan().any())


# -- against torch ----------------------------------------------------------------------------------------------

UNIQUE = ["inv", "det", "slogdet", "eigvalsh", "svdvals", "cholesky", "matrix_exp", "pinv", "lu_factor", "lu", "qr", "ldl_factor",
          "matrix_norm"]


@pytest.mark.oracle
@pytest.mark.parametrize("name", UNIQUE)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_values_and_gradients_are_those_of_torch(name, dtype):
    oracle = pytest.importorskip("torch")
    A = positive(5, 2, dtype=getattr(torch, dtype)).numpy() / 4
    inputs = torch.from_numpy(A.copy()).requires_grad_(), oracle.from_numpy(A.copy()).requires_grad_()
    results = [getattr(module.linalg, name)(x) for module, x in zip((torch, oracle), inputs)]
    results = [r if isinstance(r, tuple) else (r,) for r in results]
    for received, expected in zip(*results):
        agree(received, expected)
    if name != "ldl_factor":
        for r in results:
            sum((abs(x) ** 2).sum() for x in r if x.requires_grad).backward()
        agree(inputs[0].grad, inputs[1].grad)


# -- errors and forms -------------------------------------------------------------------------------------------

def test_what_has_no_decomposition_is_told_at_the_call():
    A = torch.full((2, 2), np.nan)
    with pytest.raises(L.LinAlgError, match="non-finite"):
        L.svd(A)
    with pytest.raises(L.LinAlgError, match="non-finite"):
        L.pinv(A)
    with pytest.raises(RuntimeError, match="NaN"):
        L.eig(A)
    assert bool(L.eigh(A).eigenvalues.isnan().all())


def test_singular_matrices_are_told_at_the_call():
    singular = torch.ones(2, 3, 3)
    with pytest.raises(L.LinAlgError, match="Batch element 0.*singular"):
        L.inv(singular)
    with pytest.raises(RuntimeError, match="singular"):
        L.solve(singular, torch.ones(3))
    assert L.inv_ex(torch.zeros(2, 2)).info == 1 and L.cholesky_ex(torch.tensor([[4.0, 2], [2, 0.5]])).info == 2
    with pytest.raises(L.LinAlgError, match="order 2"):
        L.cholesky(torch.tensor([[4.0, 2], [2, 0.5]]))
    assert L.det(singular)[0] == 0 and L.matrix_rank(singular).tolist() == [1, 1]
    assert L.lu_factor_ex(torch.zeros(2, 2)).info == 1
    assert torch.logdet(torch.diag(torch.tensor([-1.0, 1]))).isnan()


@pytest.mark.parametrize("call, error, words", [
    (lambda: L.inv(torch.ones(3)), RuntimeError, "at least 2 dim"), (lambda: L.inv(torch.ones(2, 3)), RuntimeError, "square"),
    (lambda: L.inv(torch.ones(2, 2, dtype=torch.int64)), RuntimeError, "floating point"),
    (lambda: L.eigh(torch.eye(2), "x"), RuntimeError, "UPLO"),
    (lambda: L.inv(torch.ones(2, 2, dtype=torch.float16)), RuntimeError, "Low precision"),
    (lambda: L.solve(torch.eye(2), torch.ones(3, 1)), RuntimeError, "Incompatible"),
    (lambda: L.qr(torch.eye(2), "x"), RuntimeError, "mode"),
    (lambda: L.solve(torch.eye(2), torch.ones(2, 1, dtype=torch.float64)), RuntimeError, "same dtype"),
    (lambda: L.matrix_norm(torch.eye(2), 3), RuntimeError, "Order 3"),
    (lambda: L.matrix_power(torch.eye(2), 1.5), TypeError, "must be int"),
    (lambda: L.vector_norm(torch.ones(0), np.inf), RuntimeError, "empty"),
    (lambda: L.multi_dot([torch.eye(2)]), RuntimeError, "at least 2"),
    (lambda: L.cross(torch.ones(2), torch.ones(2)), RuntimeError, "length 3"),
    (lambda: torch.renorm(torch.ones(3), 2, 0, 1), RuntimeError, "2 dim"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_results_have_names_and_out():
    A = torch.eye(2)
    found = L.slogdet(A)
    assert repr(found).startswith("torch.return_types.linalg_slogdet(\nsign=tensor(1.),\nlogabsdet=tensor(0.))")
    assert isinstance(found, torch.return_types.linalg_slogdet) and found.sign is found[0]
    Q, R = torch.empty(0), torch.empty(0)
    stored = L.qr(A, out=(Q, R))
    assert stored.Q is Q and torch.equal(Q @ R, A)
    assert torch.equal(A.inverse(), A) and A.det() == 1 and torch.equal(torch.inverse(A), A)


@pytest.mark.parametrize("largest", [True, False])
def test_lobpcg(largest):
    torch.manual_seed(0)
    q = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64))[0]
    A = q @ torch.diag(torch.arange(1.0, 41.0, dtype=torch.float64) ** 2) @ q.t()
    B = torch.eye(40, dtype=torch.float64) + 0.1 * q[:, :3] @ q[:, :3].t()
    expected = torch.tensor([1600.0, 1521.0, 1444.0] if largest else [1.0 / 1.1, 4.0 / 1.1, 9.0 / 1.1], dtype=torch.float64)
    for matrix in (A, A.to_sparse(), torch.stack([A, A])):
        E, X = torch.lobpcg(matrix, k=3, B=B, largest=largest)
        assert X.shape == (*matrix.shape[:-1], 3)
        agree(E, expected.expand(E.shape))
        assert torch.allclose(X.mT @ B @ X, torch.eye(3, dtype=A.dtype))
        assert torch.allclose(A @ X, B @ X * E.unsqueeze(-2), atol=1e-3)
    rough = torch.lobpcg(A, k=2, niter=3, largest=largest)[0]
    exact = torch.lobpcg(A, k=2, iK=torch.linalg.inv(A), largest=largest)[0]
    assert not torch.allclose(rough, exact, rtol=1e-9) and torch.allclose(exact, torch.linalg.eigvalsh(A)[[-1, -2] if largest else [0, 1]])
    with pytest.raises(ValueError, match="3 x the number of requested"):
        torch.lobpcg(A, k=14)
    with pytest.raises(ValueError, match=r"A of shape \(\*, m, m\)"):
        torch.lobpcg(A[:3])


def test_the_derivative_of_lobpcg():
    torch.manual_seed(1)
    a, start = torch.randn(6, 6, dtype=torch.float64, requires_grad=True), torch.randn(6, 1, dtype=torch.float64)
    b = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)

    def pairs(a, b):
        E, X = torch.lobpcg(a + a.t(), B=b @ b.t() + 8 * torch.eye(6, dtype=torch.float64), X=start, tol=1e-13)
        return E, X * X[:1].sign()
    assert torch.autograd.gradcheck(pairs, (a, b), atol=1e-5, fast_mode=True)
