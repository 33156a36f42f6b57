"""Reads facial expressions from images, behind one small interface (`estimation.Estimator`).

A reader returns named coefficients. MediaPipe's face landmarker runs by LiteRT alone and gives
blendshapes, numbers near [0, 1] with ARKit names; Deep3DFace gives the 64 coefficients of the
original method, with weights the user brings; codes can also come from a file; other estimators
plug in by having `names` and `estimate`.
"""
