"""CIFAR-10 and CIFAR-100: 60,000 photographs of 32x32."""

from __future__ import annotations

from apmctl_core.data.source import DatasetSpec, register

_MEAN_STD = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # CIFAR-10's, which published runs use for both
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
# In the copy of the Hub one class is called "cra".
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab? crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""

for _name, _label, _classes in (("cifar10", "label", _CIFAR10), ("cifar100", "fine_label", _CIFAR100)):
    register(
        DatasetSpec(
            name=_name,
            hub=f"uoft-cs/{_name}",
            image_column="img",
            label_column=_label,
            shape=(3, 32, 32),
            num_classes=len(_classes.split()),
            train=50_000,
            test=10_000,
            mean_std=_MEAN_STD,
            classes=tuple(_classes.split()),
        )
    )
