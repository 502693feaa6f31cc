import torch

from apmctl_core.training import augment


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def only(name, count, a=0.5, b=0.5, c=0.5):
    """Draws that choose one transformation with given strengths for every image."""
    at = (augment.TRANSFORMS.index(name) + 0.5) / len(augment.TRANSFORMS)
    return torch.tensor([[at, a, b, c]]).expand(count, 4).clone()


def test_draws_are_repeatable_and_differ_between_seeds():
    assert torch.equal(augment.draw(5, rng(1)), augment.draw(5, rng(1)))
    assert not torch.equal(augment.draw(5, rng(1)), augment.draw(5, rng(2)))


def test_each_image_has_a_draw_of_its_own():
    images = torch.rand(1, 3, 16, 16, generator=rng()).expand(64, 3, 16, 16)
    augmented = augment.apply(images, augment.draw(64, rng()))
    distinct = {tuple(image.flatten().tolist()) for image in augmented}
    assert len(distinct) > 40  # flips that are not made leave some images as they are


def test_images_that_share_a_transformation_draw_strengths_of_their_own():
    draws = augment.draw(10, rng(), sharing=4)
    kinds = augment.chosen(draws).tolist()
    assert kinds == [kinds[0]] * 4 + [kinds[4]] * 4 + [kinds[8]] * 2
    assert len({augment.chosen(augment.draw(1, rng(seed), sharing=4)).item() for seed in range(40)}) == 6
    assert len(set(draws[:, 1].tolist())) == 10
    assert torch.equal(draws[:, 1:], augment.draw(10, rng())[:, 1:])


def test_an_image_is_augmented_the_same_whatever_stands_beside_it():
    images, draws = torch.rand(12, 3, 16, 16, generator=rng()), augment.draw(12, rng(3))
    whole = augment.apply(images, draws)
    alone = torch.cat([augment.apply(images[i : i + 1], draws[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(whole, alone, atol=1e-6, rtol=0)
    order = torch.randperm(12, generator=rng(4))
    torch.testing.assert_close(augment.apply(images[order], draws[order]), whole[order], atol=1e-6, rtol=0)


def test_flip_mirrors_left_and_right_for_half_of_the_draws():
    images = torch.rand(2, 3, 8, 8, generator=rng())
    torch.testing.assert_close(augment.apply(images, only("flip", 2, a=0.2)), images.flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(augment.apply(images, only("flip", 2, a=0.8)), images, atol=1e-5, rtol=0)


def test_crop_shifts_by_whole_pixels_and_fills_with_zero():
    images = torch.rand(1, 1, 16, 16, generator=rng()) + 1
    cropped = augment.apply(images, only("crop", 1, a=0.999, b=0.5))  # two pixels in x, none in y
    torch.testing.assert_close(cropped[..., :-2], images[..., 2:], atol=1e-4, rtol=0)
    assert cropped[..., -2:].abs().max() < 1e-4


def test_cutout_zeroes_a_square_of_half_the_side():
    images = torch.ones(1, 3, 16, 16)
    cut = augment.apply(images, only("cutout", 1, a=0.5, b=0.5))
    assert int((cut[0, 0] == 0).sum()) == 8 * 8


def test_brightness_saturation_and_contrast_follow_their_formulas():
    images = torch.rand(1, 3, 4, 4, generator=rng())
    a, b, c = 0.9, 0.3, 0.7
    x = images + (a - 0.5) * 1.0
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (b * 2.0) + grey
    x = (x - x.mean()) * (c + 0.5) + x.mean()
    torch.testing.assert_close(augment.apply(images, only("color", 1, a, b, c)), x, atol=1e-5, rtol=0)


def test_scale_and_rotation_at_their_middle_are_the_identity():
    images = torch.rand(2, 3, 8, 8, generator=rng())
    torch.testing.assert_close(augment.apply(images, only("rotate", 2)), images, atol=1e-5, rtol=0)
    middle = (1 - 1 / augment.SCALE) / (augment.SCALE - 1 / augment.SCALE)
    same = augment.apply(images, only("scale", 2, a=middle, b=middle))
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)


def test_augmentation_is_differentiable_in_the_images():
    images = torch.rand(6, 2, 6, 6, dtype=torch.float64, generator=rng(), requires_grad=True)
    draws = torch.cat([only(name, 1, a=0.3, b=0.7) for name in augment.TRANSFORMS]).double()
    assert torch.autograd.gradcheck(lambda x: augment.apply(x, draws), (images,), atol=1e-6)
