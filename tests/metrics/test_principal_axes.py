import torch

from queryseg.metrics.principal_axes import principal_axes


def cloud(num_points: int, scales: list[float], seed: int = 0) -> torch.Tensor:
    points = torch.randn(num_points, len(scales), generator=torch.Generator().manual_seed(seed))
    return (points - points.mean(0)) * torch.tensor(scales)


def test_axes_are_those_of_a_singular_value_decomposition() -> None:
    points = cloud(40, [3.0, 1.0, 0.3, 0.1]) + 5
    axes = principal_axes([points], positive=points[0])
    moved = points.double() - points.double().mean(0)
    _, strengths, directions = torch.linalg.svd(moved, full_matrices=False)
    cosines = (axes.directions * directions[:2]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(axes.explained, (strengths.square() / strengths.square().sum())[:2])
    torch.testing.assert_close(axes.project(points), moved @ axes.directions.T)


def test_signs_are_decided_by_one_point() -> None:
    points = cloud(40, [3.0, 1.0, 0.3])
    for positive in (torch.tensor([1.0, 1.0, 0.0]), torch.tensor([-1.0, 1.0, 0.0])):
        axes = principal_axes([points], positive)
        assert (axes.project(positive) > 0).all()


def test_a_point_between_both_sides_leaves_the_sign_to_the_direction() -> None:
    points = cloud(40, [3.0, 1.0, 0.3])
    for mirror in (1, -1):
        axes = principal_axes([mirror * points], positive=torch.zeros(3))
        assert (axes.directions.gather(1, axes.directions.abs().argmax(1, keepdim=True)) > 0).all()


def test_a_small_cloud_weighs_as_much_as_a_large_one() -> None:
    few, many = cloud(5, [0.0, 2.0, 0.0]), cloud(500, [1.0, 0.0, 0.0])
    axes = principal_axes([few, many], positive=torch.ones(3))
    assert axes.directions[0].abs().argmax() == 1
    again = principal_axes([few, many.repeat(3, 1)], positive=torch.ones(3))
    torch.testing.assert_close(axes.directions, again.directions)


def test_points_that_do_not_vary_give_finite_axes() -> None:
    axes = principal_axes([torch.ones(3, 4)], positive=torch.ones(4))
    assert axes.project(torch.ones(4)).tolist() == [0, 0]
    assert axes.explained.tolist() == [0, 0]
